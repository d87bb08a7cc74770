// Handwritten digits in a C++ program: two threads share one network, each with a context of its own.
#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "convc.hpp"
#include "digits.h"

namespace {

constexpr std::int64_t kPixels = 64, kClasses = 10;

// The scores of images [begin, end), in batches of at most 32. Returns what went wrong, or nothing.
std::string classify(const std::vector<float> &images, std::vector<float> &scores, std::int64_t begin, std::int64_t end) {
    try {
        convc::Context digits(digits_model, /*threads=*/1);
        for (std::int64_t i = begin; i < end; i += 32) {
            const std::int64_t batch = std::min<std::int64_t>(32, end - i);
            digits.run(DIGITS_PREDICT, {convc::tensor(&images[i * kPixels], {batch, 8, 8, 1})},
                       {convc::tensor(&scores[i * kClasses], {batch, kClasses})});
        }
    } catch (const convc::Error &error) {
        return error.what();
    }
    return {};
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 2) {
        std::cerr << "usage: " << argv[0] << " IMAGES\n";
        return 2;
    }
    std::ifstream file(argv[1], std::ios::binary);
    const std::vector<unsigned char> bytes{std::istreambuf_iterator<char>(file), {}};
    const std::int64_t count = static_cast<std::int64_t>(bytes.size()) / kPixels;
    if (count == 0) {
        std::cerr << argv[1] << ": no images of " << kPixels << " bytes\n";
        return 1;
    }
    std::vector<float> images(bytes.size()), scores(count * kClasses);
    std::transform(bytes.begin(), bytes.end(), images.begin(), [](unsigned char b) { return b / 16.0f; });

    std::string first, second;
    std::thread other([&] { second = classify(images, scores, count / 2, count); });
    first = classify(images, scores, 0, count / 2);
    other.join();
    if (!first.empty() || !second.empty()) {
        std::cerr << first << second << "\n";
        return 1;
    }
    for (auto row = scores.begin(); row != scores.end(); row += kClasses)
        std::cout << std::max_element(row, row + kClasses) - row << "\n";
    return 0;
}
