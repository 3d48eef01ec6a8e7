// A line for each frame after the first: x,y,w,h,score.   ./track pico.onnx video.mp4 310,120,80,140
#include <cstdio>
#include <iostream>

#include <opencv2/videoio.hpp>

#include "fartrack.hpp"

int main(int count, char** arguments) {
    cv::Rect2d box;
    if (count != 4 ||
        std::sscanf(arguments[3], "%lf,%lf,%lf,%lf", &box.x, &box.y, &box.width, &box.height) != 4) {
        std::cerr << "usage: track MODEL.onnx VIDEO X,Y,W,H\n";
        return 2;
    }
    try {
        fartrack::Tracker tracker(arguments[1]);
        cv::VideoCapture video(arguments[2]);
        cv::Mat frame;
        if (!video.read(frame)) CV_Error(cv::Error::StsError, std::string(arguments[2]) + " cannot be read as a video");
        tracker.init(frame, box);
        while (video.read(frame)) {
            tracker.update(frame, box);
            std::printf("%.3f,%.3f,%.3f,%.3f,%.4f\n", box.x, box.y, box.width, box.height, tracker.score());
        }
    } catch (const cv::Exception& error) {
        std::cerr << "track: " << error.err << "\n";
        return 2;
    }
}
