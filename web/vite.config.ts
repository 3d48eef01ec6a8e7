/** Builds the page and puts beside it, under names that change with their content, what it needs: engine, model, clip. */

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const at = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const model = process.env.FARTRACK_MODEL ?? at("../src/fartrack/weights/pico.onnx");
if (!existsSync(model)) {
  throw new Error(`model ${model} does not exist: export it, or name another with FARTRACK_MODEL=FILE`);
}

/** One engine file serves WebGPU and WebAssembly alike; gzipped, it is 7 MB and not 27. The page unpacks it. */
const engine = readFileSync(at("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm"));

const packed = {
  engine: pack("engine", "bin", gzipSync(engine, { level: 9 })),
  model: pack("model", "onnx", readFileSync(model)),
  clip: pack("clip", "mp4", readFileSync(at("../src/fartrack/demo/clip.mp4"))),
  about: pack("clip", "json", readFileSync(at("../src/fartrack/demo/clip.json"))),
};

function pack(name: string, kind: string, source: Buffer) {
  const hash = createHash("sha256").update(source).digest("hex").slice(0, 8);
  return { file: `assets/${name}-${hash}.${kind}`, bytes: source.length, source };
}

/** The licences of what is built in. */
function licences(): string {
  const about = (name: string, path: string): string => {
    const { version, license } = JSON.parse(readFileSync(at(`node_modules/${name}/package.json`), "utf8"));
    return `${name} ${version} (${license})\n\n${path && readFileSync(at(path), "utf8")}`;
  };
  return [
    "fartrack is licensed under Apache-2.0. This page also holds the following packages, unchanged, as they are on npm;",
    "their sources are there under the same names and versions. The clip's source and licence are in clip-*.json.\n",
    about("mediabunny", "node_modules/mediabunny/LICENSE"),
    about("onnxruntime-web", "licences/onnxruntime.txt"),
  ].join("\n");
}

/** Some servers know no `.mjs`, as nginx does, and browsers refuse a script that is not served as one. */
function named({ names }: { names: string[] }): string {
  return `assets/[name]-[hash]${names.some((name) => name.endsWith(".mjs")) ? ".js" : "[extname]"}`;
}

function packaged(): Plugin {
  return {
    name: "packaged",
    generateBundle() {
      for (const { file, source } of Object.values(packed)) this.emitFile({ type: "asset", fileName: file, source });
      this.emitFile({ type: "asset", fileName: "licences.txt", source: licences() });
    },
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const found = Object.values(packed).find(({ file }) => request.url === `/${file}`);
        if (!found) return next();
        response.end(found.source);
      });
    },
  };
}

const isolated = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };

export default defineConfig({
  base: "./",
  define: {
    PACKAGED: JSON.stringify(Object.fromEntries(Object.entries(packed).map(([k, { file, bytes }]) => [k, { file, bytes }]))),
  },
  plugins: [packaged()],
  worker: { format: "es", rolldownOptions: { output: { assetFileNames: named } } },
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "development|production"] },
  build: { target: "es2022", assetsInlineLimit: 0, reportCompressedSize: false, modulePreload: { polyfill: false } },
  server: { headers: isolated },
  preview: { headers: isolated },
});
