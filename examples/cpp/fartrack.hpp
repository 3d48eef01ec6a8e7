// The tracker in C++ with OpenCV 5 and nothing else:
//
//     fartrack::Tracker tracker("pico.onnx");
//     tracker.init(frame, box);                  // frame: 8-bit BGR; box: cv::Rect2d in its pixels
//     bool found = tracker.update(frame, box);   // of each next frame; tracker.score() is the chance that it is right
//
// It follows the Python package step by step (names in brackets say where): the same crops, templates, boxes, scores
// as with runtime="opencv", where every frame gives a template.
// Errors are cv::Exception. One tracker is for one thread and one target.
#pragma once

#include <algorithm>
#include <cmath>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include <opencv2/core.hpp>
#include <opencv2/dnn.hpp>
#include <opencv2/imgproc.hpp>

namespace fartrack {

// A square of the frame in whole pixels, which may reach out of it (geometry.Window).
struct Window {
    int x, y, side;
};

// What the file says of itself (config.ModelConfig), as far as tracking needs it.
struct Config {
    int templates, template_size, search_size, tokens, kept, width, memory_width;
    double template_factor, template_tint, search_factor, lighten, margin;
    double score_bias, score_slope, score_shape, lost_below;

    explicit Config(const std::string& model) {
        std::ifstream file(model, std::ios::binary);
        const std::string bytes{std::istreambuf_iterator<char>(file), {}};
        const auto at = bytes.rfind("{\"name\":"), end = bytes.find('}', at);
        if (at == std::string::npos || end == std::string::npos)
            CV_Error(cv::Error::StsBadArg, model + " is no fartrack model file (.onnx)");
        const cv::FileStorage json(bytes.substr(at, end + 1 - at),
                                   cv::FileStorage::READ | cv::FileStorage::MEMORY | cv::FileStorage::FORMAT_JSON);
        const auto number = [&](const char* key, double otherwise = 0) {
            return json[key].empty() ? otherwise : json[key].real();
        };
        const auto text = [&](const char* key) { return json[key].empty() ? std::string() : json[key].string(); };
        const bool oneway = text("attention") == "oneway";
        if (text("memory") != "linear" || text("decoding") != "paper" || number("trajectory") || number("trust") ||
            number("withhold") || number("templates") < 2)
            CV_Error(cv::Error::StsBadArg, model + " asks for other rules than this program has");
        templates = int(number("templates"));
        template_size = int(number("template_size")), search_size = int(number("search_size"));
        template_factor = number("template_factor"), search_factor = number("search_factor");
        template_tint = number("template_tint"), lighten = number("lighten"), margin = number("margin");
        score_bias = number("score_bias"), score_slope = number("score_slope");
        score_shape = number("score_shape"), lost_below = number("lost_below");
        const int side = template_size / int(number("patch"));
        tokens = side * side;
        const double dropped = std::nearbyint(tokens * (1 - number("keep")) * 1e6) / 1e6;  // 1 - 0.8 is 0.1999...
        kept = std::max(1, tokens - int(dropped));
        width = int(number("width"));
        memory_width = width * (oneway ? 2 * int(number("depth")) : 1);
    }
};

// The templates of one video (memory.TemplateMemory): those evenly spread over it fill the slots, and what they can
// still ask for is kept, up to a capacity; from then on every second, fourth, ...
class TemplateMemory {
public:
    void start(const Config& config, const cv::Mat& tokens) {
        slots_ = config.templates, newest_ = 0, stride_ = 1;
        capacity_ = std::max({48, 192 * config.width / config.memory_width, 2 * slots_});
        kept_ = {{0, tokens}};
    }

    // Stores the newest template's pruned tokens for good.
    void settle(const cv::Mat& tokens) {
        if (newest_ % stride_ == 0) kept_[newest_] = tokens;
        if (int(kept_.size()) > capacity_) thin();
    }

    void add() { ++newest_; }

    // Tokens of all slots but the newest, oldest first.
    std::vector<cv::Mat> older() const {
        std::vector<cv::Mat> found;
        for (int i = 0; i + 1 < slots_; ++i) found.push_back(nearest(wanted(i, newest_)));
        return found;
    }

private:
    int wanted(int slot, int newest) const {
        if (newest + 1 < slots_) return std::max(0, newest + 1 - slots_ + slot);
        return int(std::nearbyint(double(newest) * slot / (slots_ - 1)));
    }

    const cv::Mat& nearest(int index) const {
        if (const auto there = kept_.find(index); there != kept_.end()) return there->second;
        const auto after = kept_.upper_bound(index), before = std::prev(after);  // the first frame's is always there
        const bool later = after != kept_.end() && after->first - index < index - before->first;
        return later ? after->second : before->second;
    }

    template <typename Keep> void keep(Keep stays) {
        for (auto it = kept_.begin(); it != kept_.end();) it = stays(it->first) ? std::next(it) : kept_.erase(it);
    }

    void thin() {
        const int oldest = slots_ > 2 ? wanted(1, newest_ + 1) : newest_ + 1;
        keep([&](int i) { return i == 0 || i > oldest - stride_; });
        while (int(kept_.size()) > capacity_) {
            stride_ *= 2;
            keep([&](int i) { return i % stride_ == 0; });
        }
    }

    int slots_ = 0, newest_ = 0, stride_ = 1, capacity_ = 0;
    std::map<int, cv::Mat> kept_;
};

class Tracker {
public:
    explicit Tracker(const std::string& model)
        : config_(model), net_(cv::dnn::readNetFromONNX(model, cv::dnn::ENGINE_NEW)) {}

    void init(const cv::Mat& frame, const cv::Rect2d& box) {
        check(frame);
        const cv::Rect2d inside = box & cv::Rect2d(0, 0, frame.cols, frame.rows);
        if (!(box.width > 0 && box.height > 0) || inside.empty() || box.area() > 4.0 * frame.total() ||
            !std::isfinite(box.x + box.y + box.width + box.height) ||
            std::max(box.width, box.height) > 100.0 * std::max(frame.cols, frame.rows))
            CV_Error(cv::Error::StsBadArg, "the box is not a box in this frame: give x, y, w, h in its pixels");
        size_ = frame.size(), box_ = box, score_ = 1;
        margin_ = std::min({config_.margin, box.width, box.height});
        shapes_.assign(1, box.size());
        template_ = cut_template(frame, {0, 255, 0});
        const cv::Mat nothing(config_.search_size, config_.search_size, CV_8UC3, cv::Scalar::all(0));
        const cv::Mat unknown(config_.tokens, config_.memory_width, CV_32F, cv::Scalar(0));
        memory_.start(config_, tokens(run(nothing, std::vector<cv::Mat>(config_.templates - 1, unknown))));
    }

    bool update(const cv::Mat& frame, cv::Rect2d& box) {
        check(frame);
        if (template_.empty()) CV_Error(cv::Error::StsError, "the tracker has no target: call init first");
        if (frame.size() != size_) CV_Error(cv::Error::StsBadArg, "the frame has another size than the first one");
        const Window window = around(config_.search_factor);
        const std::vector<cv::Mat> answer = run(cut(frame, window, config_.search_size), memory_.older());
        const float* corners = answer[0].ptr<float>();
        box_ = clipped(window.x + double(corners[0]) * window.side, window.y + double(corners[1]) * window.side,
                       window.x + double(corners[2]) * window.side, window.y + double(corners[3]) * window.side);
        score_ = judged(answer[1]);
        shapes_.push_back(box_.size());
        if (shapes_.size() > 30) shapes_.pop_front();
        memory_.settle(pruned(tokens(answer), answer[2].ptr<float>()));
        memory_.add();
        template_ = cut_template(frame, {255, 0, 255});
        box = box_;
        return score_ >= config_.lost_below;
    }

    // The chance, 0 to 1, that the last box overlaps the target by more than half.
    double score() const { return score_; }

private:
    static void check(const cv::Mat& frame) {
        if (frame.empty() || frame.type() != CV_8UC3) CV_Error(cv::Error::StsBadArg, "give a frame of 8-bit BGR");
    }

    // [geometry.window_around]
    Window around(double factor) const {
        const int side = std::max(1, int(std::ceil(std::sqrt(box_.width * box_.height) * factor)));
        return {int(std::nearbyint(box_.x + 0.5 * box_.width - side * 0.5)),
                int(std::nearbyint(box_.y + 0.5 * box_.height - side * 0.5)), side};
    }

    // At least `margin` pixels of a box stay in the frame, and its sides are that long [geometry.clip]
    cv::Rect2d clipped(double x0, double y0, double x1, double y1) const {
        const double w = size_.width, h = size_.height, margin = std::min({margin_, w, h});
        x0 = std::min(std::max(0.0, x0), w - margin), x1 = std::max(margin, std::min(x1, w));
        y0 = std::min(std::max(0.0, y0), h - margin), y1 = std::max(margin, std::min(y1, h));
        return {x0, y0, std::max(margin, x1 - x0), std::max(margin, y1 - y0)};
    }

    // A window, resized; black outside of the frame, whose last row and column count as outside [crops.cut]
    cv::Mat cut(const cv::Mat& frame, const Window& at, int size) const {
        const int width = frame.cols - 1, height = frame.rows - 1, side = at.side;
        const int left = std::max(0, -at.x), right = std::max(0, at.x + side - width);
        const int top = std::max(0, -at.y), bottom = std::max(0, at.y + side - height);
        if (std::max({left, top, right, bottom}) >= side) return cv::Mat::zeros(size, size, CV_8UC3);
        const cv::Range rows(at.y + top, at.y + side - bottom), columns(at.x + left, at.x + side - right);
        cv::Mat inside = frame(rows, columns);
        if (inside.empty()) return cv::Mat::zeros(size, size, CV_8UC3);
        const bool reaches_out = left || top || right || bottom;
        cv::Mat crop;
        if (reaches_out && side > 1500 && std::max(inside.cols, inside.rows) < 1 << 15) {  // only what is needed
            const double scale = double(side) / size;
            const cv::Matx23d where(scale, 0, (scale - 1) / 2 - left, 0, scale, (scale - 1) / 2 - top);
            cv::warpAffine(inside, crop, where, {size, size}, cv::INTER_LINEAR | cv::WARP_INVERSE_MAP);
            return lightened(crop);
        }
        if (reaches_out)  // isolated: else it takes for the border what lies around this part of the frame
            cv::copyMakeBorder(inside, inside, top, bottom, left, right, cv::BORDER_CONSTANT | cv::BORDER_ISOLATED);
        cv::resize(inside, crop, {size, size});
        return lightened(crop);
    }

    // A dark crop is brightened [crops.lighten]
    cv::Mat lightened(const cv::Mat& crop) const {
        const cv::Mat flat = crop.reshape(1);
        const double mean = cv::sum(flat)[0] / std::max(1, cv::countNonZero(flat));
        if (!config_.lighten || mean >= config_.lighten) return crop;
        const double gain = std::min(6.0, std::pow(config_.lighten / std::max(1.0, mean), 1.6));
        cv::Mat table(1, 256, CV_8U), bright;
        for (int i = 0; i < 256; ++i) table.at<uchar>(i) = uchar(std::nearbyint(std::min(255.0, gain * i)));
        cv::LUT(crop, table, bright);
        return bright;
    }

    // How much of each pixel along one side an interval covers.
    static std::vector<float> covered(double begin, double end, int size) {
        std::vector<float> shares(size);
        for (int i = 0; i < size; ++i)
            shares[i] = float(std::clamp(std::min(i + 1.0, end) - std::max(double(i), begin), 0.0, 1.0));
        return shares;
    }

    // Outside of the box a template is tinted [crops.tint_outside]
    cv::Mat cut_template(const cv::Mat& frame, const cv::Scalar& colour) const {
        const Window at = around(config_.template_factor);
        const int size = config_.template_size;
        cv::Mat crop = cut(frame, at, size), tinted, mixed;
        const double scale = double(size) / at.side;
        cv::addWeighted(crop, 1 - config_.template_tint, cv::Mat(size, size, CV_8UC3, colour), config_.template_tint, 0,
                        tinted);
        const auto across = covered((box_.x - at.x) * scale, (box_.x + box_.width - at.x) * scale, size);
        const auto down = covered((box_.y - at.y) * scale, (box_.y + box_.height - at.y) * scale, size);
        cv::Mat inside(size, size, CV_32F);
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j) inside.at<float>(i, j) = down[i] * across[j];
        cv::blendLinear(crop, tinted, inside, 1.0 - inside, mixed);
        return mixed;
    }

    // One call of the network: box, logits, saliency and tokens. It takes uint8 RGB, height x width x channels.
    std::vector<cv::Mat> run(const cv::Mat& search, const std::vector<cv::Mat>& older) {
        cv::Mat memory;
        cv::vconcat(older, memory);
        net_.setInput(image(search), "search");
        net_.setInput(image(template_), "template");
        net_.setInput(memory.reshape(1, {1, int(older.size()), older[0].rows, config_.memory_width}), "memory");
        std::vector<cv::Mat> answer;
        net_.forward(answer, std::vector<cv::String>{"box", "logits", "saliency", "tokens"});
        return answer;
    }

    static cv::Mat image(const cv::Mat& bgr) {
        cv::Mat rgb;
        cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
        return rgb.reshape(1, {1, bgr.rows, bgr.cols, 3});
    }

    cv::Mat tokens(const std::vector<cv::Mat>& answer) const {
        return cv::Mat(config_.tokens, config_.memory_width, CV_32F, const_cast<uchar*>(answer[3].data)).clone();
    }

    // The most salient tokens in their order; of equals the earlier goes first [memory.most_salient]
    cv::Mat pruned(const cv::Mat& whole, const float* saliency) const {
        std::vector<int> order(config_.tokens);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return saliency[a] < saliency[b]; });
        std::sort(order.end() - config_.kept, order.end());
        cv::Mat rows(config_.kept, config_.memory_width, CV_32F);
        for (int i = 0; i < config_.kept; ++i)
            whole.row(order[config_.tokens - config_.kept + i]).copyTo(rows.row(i));
        return rows;
    }

    // [vocabulary.score, geometry.change_of_shape]
    double judged(const cv::Mat& logits) const {
        const int words = logits.size[2] - 5;  // the last five are no coordinates
        double entropy = 0;
        for (int i = 0; i < 4; ++i) {
            const float* z = logits.ptr<float>() + i * logits.size[2];
            const double most = *std::max_element(z, z + words);
            double sum = 0, weighted = 0;
            for (int k = 0; k < words; ++k) {
                const double e = std::exp(z[k] - most);
                sum += e, weighted += e * (z[k] - most);
            }
            entropy += (std::log(sum) - weighted / sum) / 4;
        }
        const auto change = [this](double now, double cv::Size2d::*side) {
            std::vector<double> usual;
            for (const cv::Size2d& shape : shapes_) usual.push_back(shape.*side);
            std::sort(usual.begin(), usual.end());
            const size_t half = usual.size() / 2;
            const double median = usual.size() % 2 ? usual[half] : (usual[half - 1] + usual[half]) / 2;
            return std::abs(std::log(std::max(now, 1e-3) / std::max(median, 1e-3)));
        };
        const double differs =
            std::max(change(box_.width, &cv::Size2d::width), change(box_.height, &cv::Size2d::height));
        const double z = config_.score_bias + config_.score_slope * entropy + config_.score_shape * differs;
        return 1 / (1 + std::exp(-z));
    }

    Config config_;
    cv::dnn::Net net_;
    TemplateMemory memory_;
    cv::Mat template_;
    cv::Size size_;
    double margin_ = 0;  // of the config; less for a target that is given smaller
    cv::Rect2d box_;
    std::deque<cv::Size2d> shapes_;
    double score_ = 0;
};

}  // namespace fartrack
