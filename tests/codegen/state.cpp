// Trains the digits network with convc_state.hpp; every check that fails is a line on stderr and exit code 1.
#include <iostream>
#include <string>
#include <vector>

#include "convc_state.hpp"
#include "digits.h"

namespace {

int failures = 0;

void check(bool holds, const char *what) {
    if (holds) return;
    std::cerr << "failed: " << what << "\n";
    failures++;
}

float step(convc::TrainingContext &digits) {
    const std::vector<float> images(3 * 64, 0.5f);
    const std::vector<std::int64_t> labels{1, 2, 3};
    float loss = 0;
    digits.run(DIGITS_TRAIN_STEP, {convc::tensor(images.data(), {3, 8, 8, 1}), convc::tensor(labels.data(), {3})},
               {convc::tensor(&loss, {})});
    return loss;
}

template <typename F> void refused(std::int32_t status, const std::string &message, F action) {
    try {
        action();
    } catch (const convc::Error &error) {
        if (error.status == status && std::string(error.what()).find(message) != std::string::npos) return;
        std::cerr << error.status << ": " << error.what() << "\n";
    }
    check(false, message.c_str());
}

} // namespace

int main() {
    convc::TrainingContext digits(digits_model, 1);
    digits.set_number("learning_rate", 0.5);
    const std::vector<float> before = digits.get<float>("digit/kernel");
    check(before.size() == 1280 && digits.shape("digit/kernel") == std::vector<std::int64_t>{128, 10}, "a parameter");
    step(digits);
    check(digits.get<float>("digit/kernel") != before && digits.number("iterations") == 1, "a step");
    digits.save_state("cpp.state");
    const std::vector<unsigned char> saved = digits.saved_state();
    const float second = step(digits);
    convc::TrainingContext other(digits_model);
    other.load_state("cpp.state");
    check(other.saved_state() == saved && step(other) == second, "a context continues from a file");
    other.take_saved_state(saved);
    convc::TrainingContext moved(std::move(other));
    check(step(moved) == second, "and from bytes, and moves");
    moved.set("digit/kernel", before);
    check(moved.get<float>("digit/kernel") == before, "set");
    moved.reset_metrics();
    check(moved.number("metrics/loss/1") == 0, "metrics begin anew");
    moved.reset_state();
    check(moved.number("iterations") == 0, "so does everything");
    refused(CONVC_ERROR_STATE, "digit/kernal: no such state", [&] { moved.get<float>("digit/kernal"); });
    refused(CONVC_ERROR_DTYPE, "digit/kernel: wrong dtype", [&] { moved.get<double>("digit/kernel"); });
    refused(CONVC_ERROR_SHAPE, "expected 1280 elements, got 1", [&] { moved.set("digit/kernel", std::vector<float>(1)); });
    refused(CONVC_ERROR_FILE, "can't read", [&] { moved.load_state("none.state"); });
    return failures != 0;
}
