/* Exercises convc_state.h on two models; every check that fails is a line on stderr and exit code 1. */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"
#include "other.h"

static int failures;

static void check(int holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "failed: %s\n", what);
    failures++;
}

/* A function's status and message. */
static void expect(convc_context *c, int32_t got, int32_t status, const char *message) {
    if (got == status && strstr(convc_context_message(c), message)) return;
    fprintf(stderr, "failed: expected %d with %s, got %d with %s\n", (int)status, message, (int)got,
            convc_context_message(c));
    failures++;
}

static convc_context *create(const convc_model *model, const convc_options *options) {
    convc_context *context = NULL;
    check(convc_context_create(model, options, &context) == CONVC_OK, convc_context_message(context));
    return context;
}

static float image[2 * 64], scores[2][20];
static const int64_t labels[] = {3, 7};

static int32_t run(convc_context *c, int32_t entry, float *result) {
    const int64_t in[] = {2, 8, 8, 1}, out[] = {2, 10}, n[] = {2};
    const convc_tensor batch[] = {convc_tensor_of(image, CONVC_FLOAT, 32, 4, in),
                                  convc_tensor_of(labels, CONVC_INT, 64, 1, n)};
    const int predicts = entry == DIGITS_PREDICT;
    const convc_tensor y = convc_tensor_of(result, CONVC_FLOAT, 32, predicts ? 2 : 0, predicts ? out : NULL);
    return convc_run(c, entry, batch, predicts ? 1 : 2, &y, 1);
}

static void test_get_and_set(void) {
    convc_context *c = create(&digits_model, NULL), *d = create(&digits_model, NULL);
    const int64_t shape[] = {3, 3, 1, 16}, strides[] = {4, 4, 4, 4};
    float kernel[144], before[144];
    double number = 0;
    convc_tensor t = convc_tensor_of(kernel, CONVC_FLOAT, 32, 4, shape);
    const int32_t index = convc_find_state(&digits_model, "conv1/kernel");
    check(index >= 0 && convc_state_at(&digits_model, index)->kind == CONVC_STATE_PARAMETER, "find a parameter");
    check(convc_state_bytes(convc_state_at(&digits_model, index)) == sizeof kernel, "a parameter's bytes");
    expect(c, convc_get_state(c, "conv1/kernel", &t), CONVC_OK, "");
    memcpy(before, kernel, sizeof kernel);
    kernel[17] = 42;
    expect(c, convc_set_state(c, "conv1/kernel", &t), CONVC_OK, "");
    memset(kernel, 0, sizeof kernel);
    convc_get_state(c, "conv1/kernel", &t);
    check(kernel[17] == 42 && kernel[16] == before[16] && kernel[143] == before[143], "set and get");
    convc_get_state(d, "conv1/kernel", &t);
    check(!memcmp(kernel, before, sizeof kernel), "contexts are apart");
    convc_reset_state(c);
    convc_get_state(c, "conv1/kernel", &t);
    check(!memcmp(kernel, before, sizeof kernel), "reset to the first values");
    expect(c, convc_get_state(c, "conv1/kernal", &t), CONVC_ERROR_STATE, "digits: conv1/kernal: no such state");
    t.bits = 64;
    expect(c, convc_get_state(c, "conv1/kernel", &t), CONVC_ERROR_DTYPE, "expected type code 2 with 32 bits");
    t = convc_tensor_of(kernel, CONVC_FLOAT, 32, 3, shape);
    expect(c, convc_get_state(c, "conv1/kernel", &t), CONVC_ERROR_RANK, "expected 4, got 3");
    t = convc_tensor_of(kernel, CONVC_FLOAT, 32, 4, strides);
    expect(c, convc_get_state(c, "conv1/kernel", &t), CONVC_ERROR_SHAPE, "dimension 3: wrong shape: expected 16, got 4");
    t = convc_tensor_of(kernel, CONVC_FLOAT, 32, 4, shape);
    t.strides = strides;
    expect(c, convc_get_state(c, "conv1/kernel", &t), CONVC_ERROR_STRIDES, "not C-contiguous");
    t = convc_tensor_of(NULL, CONVC_FLOAT, 32, 4, shape);
    expect(c, convc_set_state(c, "conv1/kernel", &t), CONVC_ERROR_ARGUMENT, "null pointer");
    expect(c, convc_set_number(c, "learning_rate", 0.25), CONVC_OK, "");
    expect(c, convc_get_number(c, "learning_rate", &number), CONVC_OK, "");
    check(number == 0.25, "the learning rate");
    expect(c, convc_set_number(c, "seed", 4294967295.0), CONVC_OK, "");
    convc_get_number(c, "seed", &number);
    check(number == 4294967295.0, "the largest seed");
    expect(c, convc_set_number(c, "conv2/bias", 0), CONVC_ERROR_RANK, "not a single number");
    convc_context_destroy(c);
    convc_context_destroy(d);
}

static void test_steps(void) {
    convc_context *c = create(&digits_model, NULL), *reader;
    convc_options options;
    convc_run_arguments bare;
    double steps = -1, sum = -1;
    float loss[2] = {0, 0};
    expect(c, run(c, DIGITS_PREDICT, scores[0]), CONVC_OK, "");
    expect(c, run(c, DIGITS_TRAIN_STEP, &loss[0]), CONVC_OK, "");
    expect(c, run(c, DIGITS_TRAIN_STEP, &loss[1]), CONVC_OK, "");
    expect(c, run(c, DIGITS_PREDICT, scores[1]), CONVC_OK, "");
    check(loss[1] < loss[0] && memcmp(scores[0], scores[1], sizeof scores[0]), "steps change predictions");
    convc_get_number(c, "iterations", &steps);
    convc_get_number(c, "metrics/loss/1", &sum);
    check(steps == 2 && sum == 4, "counts");
    convc_reset_metrics(c);
    convc_get_number(c, "iterations", &steps);
    convc_get_number(c, "metrics/loss/1", &sum);
    check(steps == 2 && sum == 0, "metrics begin anew, nothing else does");
    memset(&options, 0, sizeof options);
    options.size = sizeof options;
    options.threads = 1;
    options.state = c->state;
    reader = create(&digits_model, &options);
    run(reader, DIGITS_PREDICT, scores[0]);
    check(!memcmp(scores[0], scores[1], sizeof scores[0]), "a context that reads another one's state");
    convc_context_destroy(reader);
    options.state = (char *)c->state + 4;
    reader = create(&digits_model, &options);
    expect(reader, run(reader, DIGITS_PREDICT, scores[0]), CONVC_ERROR_STATE, "aligned to 64 bytes");
    convc_context_destroy(reader);
    memset(&bare, 0, sizeof bare);
    bare.size = offsetof(convc_run_arguments, state);
    bare.entry = DIGITS_METRICS;
    bare.outputs_count = 2;
    {
        const convc_tensor means[] = {convc_tensor_of(&loss[0], CONVC_FLOAT, 32, 0, NULL),
                                      convc_tensor_of(&loss[1], CONVC_FLOAT, 32, 0, NULL)};
        bare.outputs = means;
        check(digits_model.run(&digits_model, &bare) == CONVC_ERROR_STATE, "a host that knows of no state");
    }
    convc_context_destroy(c);
}

static void damage(const char *path, const unsigned char *saved, uint64_t size) {
    FILE *file = fopen(path, "wb");
    check(file && fwrite(saved, 1, (size_t)size, file) == size && fclose(file) == 0, "write a damaged file");
}

static void test_saved_states(void) {
    convc_context *c = create(&digits_model, NULL), *d = create(&digits_model, NULL), *o = create(&other_model, NULL);
    const uint64_t size = convc_saved_size(&digits_model);
    unsigned char *saved = malloc(size), *again = malloc(size);
    float loss;
    uint64_t i;
    run(c, DIGITS_TRAIN_STEP, &loss);
    expect(c, convc_save_state(c, "c.state"), CONVC_OK, "");
    expect(c, convc_save_state_to(c, saved, size), CONVC_OK, "");
    expect(c, convc_save_state_to(c, saved, size - 1), CONVC_ERROR_ARGUMENT, "less memory");
    expect(d, convc_load_state(d, "c.state"), CONVC_OK, "");
    convc_save_state_to(d, again, size);
    check(!memcmp(saved, again, size), "a state comes back from its file");
    convc_reset_state(d);
    convc_save_state_to(d, again, size);
    check(memcmp(saved, again, size) != 0, "another state");
    for (i = 0; i < size; i += 61) {
        saved[i] ^= 16;
        check(convc_load_state_from(d, saved, size) != CONVC_OK, "an altered byte");
        saved[i] ^= 16;
    }
    expect(d, convc_load_state_from(d, saved, size - 8), CONVC_ERROR_DAMAGED, "saved state: truncated");
    expect(d, convc_load_state_from(d, saved, 20), CONVC_ERROR_DAMAGED, "truncated");
    expect(d, convc_load_state_from(d, "nonsense", 8), CONVC_ERROR_DAMAGED, "not a saved state");
    saved[size / 2] ^= 1;
    damage("altered.state", saved, size);
    expect(d, convc_load_state(d, "altered.state"), CONVC_ERROR_DAMAGED, "altered.state: altered: its checksum");
    damage("cut.state", saved, size - 100);
    expect(d, convc_load_state(d, "cut.state"), CONVC_ERROR_DAMAGED, "cut.state: truncated:");
    damage("empty.state", saved, 0);
    expect(d, convc_load_state(d, "empty.state"), CONVC_ERROR_DAMAGED, "empty.state: not a saved state");
    expect(o, convc_load_state(o, "c.state"), CONVC_ERROR_MODEL, "c.state: another model's state");
    expect(d, convc_load_state(d, "none.state"), CONVC_ERROR_FILE, "digits: can't read none.state: No such file");
    expect(d, convc_save_state(d, "none/d.state"), CONVC_ERROR_FILE, "digits: can't write none/d.state: No such file");
    convc_save_state_to(d, saved, size);
    check(!memcmp(saved, again, size), "what was refused changed nothing");
    free(saved);
    free(again);
    convc_context_destroy(c);
    convc_context_destroy(d);
    convc_context_destroy(o);
}

int main(void) {
    int i;
    for (i = 0; i < 128; i++) image[i] = (float)(i % 7) / 7;
    test_get_and_set();
    test_steps();
    test_saved_states();
    return failures != 0;
}
