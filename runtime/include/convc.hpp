// Models that convc compiled, for C++17: contexts that end by themselves, errors as exceptions.
//
//     convc::Context digits(digits_model);
//     digits.run(DIGITS_PREDICT, {convc::tensor(images, {batch, 8, 8, 1})}, {convc::tensor(scores, {batch, 10})});
#ifndef CONVC_HPP
#define CONVC_HPP

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "convc.h"

namespace convc {

// Something that convc.h reports; `status` is one of convc_status.
class Error : public std::runtime_error {
public:
    Error(std::int32_t status, const std::string &message) : std::runtime_error(message), status(status) {}
    std::int32_t status;
};

// A C-contiguous array on the CPU. It refers to `data` and owns its shape.
class Tensor {
public:
    Tensor(const void *data, int code, int bits, std::vector<std::int64_t> shape)
        : data_(data), code_(code), bits_(bits), shape_(std::move(shape)) {}

    // The C struct, valid for as long as this object is.
    convc_tensor describe() const {
        return convc_tensor_of(data_, code_, bits_, static_cast<std::int32_t>(shape_.size()), shape_.data());
    }

private:
    const void *data_;
    int code_, bits_;
    std::vector<std::int64_t> shape_;
};

template <typename T> Tensor tensor(const T *data, std::vector<std::int64_t> shape) {
    static_assert(std::is_arithmetic<T>::value, "elements are numbers or bool");
    constexpr int code = std::is_same<T, bool>::value        ? CONVC_BOOL
                         : std::is_floating_point<T>::value ? CONVC_FLOAT
                         : std::is_signed<T>::value         ? CONVC_INT
                                                            : CONVC_UINT;
    return Tensor(data, code, static_cast<int>(8 * sizeof(T)), std::move(shape));
}

// A context: workspace and threads for one run at a time. Use one per thread.
class Context {
public:
    // `threads` counts the caller's; 0 is all CPUs that the process may use.
    explicit Context(const convc_model &model, int threads = 0) {
        convc_options options{};
        options.size = sizeof options;
        options.threads = threads;
        create(model, options);
    }
    Context(const convc_model &model, const convc_options &options) { create(model, options); }
    ~Context() { convc_context_destroy(context_); }
    Context(Context &&other) noexcept : context_(std::exchange(other.context_, nullptr)) {}
    Context &operator=(Context &&other) noexcept {
        std::swap(context_, other.context_);
        return *this;
    }
    Context(const Context &) = delete;
    Context &operator=(const Context &) = delete;

    void run(std::int32_t entry, std::initializer_list<Tensor> inputs, std::initializer_list<Tensor> outputs) {
        const std::vector<convc_tensor> ins = describe(inputs), outs = describe(outputs);
        const std::int32_t status = convc_run(context_, entry, ins.data(), static_cast<std::int32_t>(ins.size()),
                                              outs.data(), static_cast<std::int32_t>(outs.size()));
        if (status != CONVC_OK) throw Error(status, convc_context_message(context_));
    }

    const convc_model &model() const { return *context_->model; }
    int threads() const { return context_->threads; }

protected:
    convc_context *context_ = nullptr;

private:
    void create(const convc_model &model, const convc_options &options) {
        const std::int32_t status = convc_context_create(&model, &options, &context_);
        if (status == CONVC_OK) return;
        const std::string message = convc_context_message(context_);
        convc_context_destroy(context_);
        context_ = nullptr;
        throw Error(status, message);
    }

    static std::vector<convc_tensor> describe(const std::initializer_list<Tensor> &tensors) {
        std::vector<convc_tensor> result;
        for (const Tensor &tensor : tensors) result.push_back(tensor.describe());
        return result;
    }
};

} // namespace convc

#endif
