/** Compile the tests and run those that are named: `node tests/run.mjs functions session page`. */

import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const run = (command, args) => {
  const { status } = spawnSync(command, args, { stdio: "inherit", cwd: at("..") });
  if (status !== 0) process.exit(status ?? 1);
};

const names = process.argv.slice(2);
const wanted = names.length ? names : ["functions", "session", "page"];
rmSync(at("out/js"), { recursive: true, force: true });
run(process.execPath, [at("../node_modules/typescript/bin/tsc"), "-p", at("tsconfig.json")]);
writeFileSync(at("out/js/package.json"), '{"type": "module"}');
run(process.execPath, ["--test", ...wanted.map((name) => at(`out/js/tests/${name}.test.js`))]);
