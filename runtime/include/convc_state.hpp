// Models that convc compiled with --train, for C++17: contexts with parameters to train, read, set, save and load.
//
//     convc::TrainingContext digits(digits_model);
//     digits.set_number("learning_rate", 0.001);
//     digits.run(DIGITS_TRAIN_STEP, {convc::tensor(images, {n, 8, 8, 1}), convc::tensor(labels, {n})}, {convc::tensor(&loss, {})});
//     digits.save_state("digits.state");
//
// Threads: as convc_state.h says, one context, one call at a time.
#ifndef CONVC_STATE_HPP
#define CONVC_STATE_HPP

#include "convc.hpp"
#include "convc_state.h"

namespace convc {

// A context whose state goes by name: parameters, what the optimizer keeps, metrics, the learning rate.
class TrainingContext : public Context {
public:
    using Context::Context;

    // A state's elements in C order. T is its type: float, double, std::int64_t, ...
    template <typename T> std::vector<T> get(const std::string &name) {
        std::vector<T> values(static_cast<std::size_t>(elements(name)));
        checked(convc_get_state(context_, name.c_str(), described(name, values.data())));
        return values;
    }

    // Gives a state new elements in C order, all of them.
    template <typename T> void set(const std::string &name, const std::vector<T> &values) {
        if (static_cast<std::int64_t>(values.size()) != elements(name))
            throw Error(CONVC_ERROR_SHAPE, name + ": expected " + std::to_string(elements(name)) + " elements, got " +
                                               std::to_string(values.size()));
        checked(convc_set_state(context_, name.c_str(), described(name, values.data())));
    }

    std::vector<std::int64_t> shape(const std::string &name) const {
        const convc_state_info &state = info(name);
        return std::vector<std::int64_t>(state.shape, state.shape + state.rank);
    }

    // A state of one number, such as "iterations" or "learning_rate".
    double number(const std::string &name) {
        double value = 0;
        checked(convc_get_number(context_, name.c_str(), &value));
        return value;
    }
    void set_number(const std::string &name, double value) {
        checked(convc_set_number(context_, name.c_str(), value));
    }

    void reset_metrics() { convc_reset_metrics(context_); }
    void reset_state() { convc_reset_state(context_); }

    // The whole state as bytes, and back.
    std::vector<unsigned char> saved_state() {
        std::vector<unsigned char> bytes(static_cast<std::size_t>(convc_saved_size(&model())));
        checked(convc_save_state_to(context_, bytes.data(), bytes.size()));
        return bytes;
    }
    void take_saved_state(const std::vector<unsigned char> &bytes) {
        checked(convc_load_state_from(context_, bytes.data(), bytes.size()));
    }

    // The same in a file, which is replaced as a whole or not at all.
    void save_state(const std::string &path) { checked(convc_save_state(context_, path.c_str())); }
    void load_state(const std::string &path) { checked(convc_load_state(context_, path.c_str())); }

private:
    const convc_state_info &info(const std::string &name) const {
        const std::int32_t index = convc_find_state(&model(), name.c_str());
        if (index < 0) throw Error(CONVC_ERROR_STATE, std::string(model().name) + ": " + name + ": no such state");
        return *convc_state_at(&model(), index);
    }

    std::int64_t elements(const std::string &name) const {
        std::int64_t count = 1;
        for (const std::int64_t extent : shape(name)) count *= extent;
        return count;
    }

    // The host's array as one for the state, with the dtype that T is.
    template <typename T> const convc_tensor *described(const std::string &name, const T *data) {
        static const T nothing{};
        const Tensor found = tensor(data ? data : &nothing, {});
        described_ = found.describe();
        described_.rank = info(name).rank;
        described_.shape = info(name).shape;
        return &described_;
    }

    void checked(std::int32_t status) const {
        if (status != CONVC_OK) throw Error(status, convc_context_message(context_));
    }

    convc_tensor described_{};
};

} // namespace convc

#endif
