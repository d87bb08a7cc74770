/* Exercises convc.h on two models in one program; every check that fails is a line on stderr and exit code 1. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "scale.h"
#include "triple.h"

enum { ROWS = 37, COLUMNS = 8, COUNT = ROWS * COLUMNS };

static int failures = 0;
static float x[COUNT];

static void check(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "failed: %s\n", what);
    failures++;
}

static int is_scaled(const float *y, float factor) {
    int i;
    for (i = 0; i < COUNT; i++)
        if (y[i] != x[i] * factor + 1) return 0;
    return 1;
}

static convc_context *create(const convc_model *model, const convc_options *options) {
    convc_context *context = NULL;
    int32_t status = convc_context_create(model, options, &context);
    check(status == CONVC_OK, convc_context_message(context));
    return context;
}

static convc_options with_threads(int32_t threads) {
    convc_options options = {sizeof options, 0, 0, NULL, NULL, NULL, 0, NULL, NULL};
    options.threads = threads;
    return options;
}

static void test_description(void) {
    const convc_model *m = &scale_model;
    const convc_entry *entry = convc_entry_at(m, SCALE_PREDICT);
    const convc_tensor_info *input = convc_tensor_at(entry->inputs, 0);
    int64_t symbols[] = {5};
    check(m->abi_version == CONVC_ABI_VERSION && m->size == sizeof *m, "model header");
    check(!strcmp(m->name, "scale") && m->entries_count == 1 && !strcmp(m->symbols[0], "N"), "names");
    check(convc_find_entry(m, "predict") == SCALE_PREDICT && convc_find_entry(m, "train") == -1, "find entry");
    check(entry->inputs_count == 1 && entry->outputs_count == 1 && !strcmp(input->name, "x"), "inputs");
    check(input->code == CONVC_FLOAT && input->bits == 32 && input->lanes == 1 && input->rank == 2, "type");
    check(convc_evaluate(input->shape[0], symbols) == 5 && convc_evaluate(input->shape[1], symbols) == 8, "shape");
    check(convc_workspace_size(m, 0, 5) == 160 && convc_workspace_size(m, 1, 5) == -1, "workspace size");
    check(m->check() == 0 && m->weights_size == 32 && ((const float *)m->weights)[7] == 2, "weights");
}

static void test_two_models(void) {
    static float y[COUNT], z[COUNT];
    const int64_t shape[] = {ROWS, COLUMNS};
    convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, shape);
    convc_tensor out[] = {convc_tensor_of(y, CONVC_FLOAT, 32, 2, shape), convc_tensor_of(z, CONVC_FLOAT, 32, 2, shape)};
    int32_t threads;
    for (threads = 1; threads <= 7; threads += 3) {
        convc_options options = with_threads(threads);
        convc_context *a = create(&scale_model, &options), *b = create(&triple_model, &options);
        check(a->threads == threads, "threads");
        memset(y, 0, sizeof y);
        memset(z, 0, sizeof z);
        check(convc_run(a, SCALE_PREDICT, &in, 1, &out[0], 1) == CONVC_OK, convc_context_message(a));
        check(convc_run(b, TRIPLE_PREDICT, &in, 1, &out[1], 1) == CONVC_OK, convc_context_message(b));
        check(is_scaled(y, 2) && is_scaled(z, 3), "two models in one program");
        convc_context_destroy(a);
        convc_context_destroy(b);
    }
}

static int64_t tasks_seen = 0;

static void host_parallel_for(void *pool, convc_function function, void **arguments, int64_t tasks) {
    int64_t i;
    check(pool == &tasks_seen, "the host's pool arrives");
    for (i = tasks - 1; i >= 0; i--) function(arguments, i, i + 1);
    tasks_seen += tasks;
}

static void test_host_memory_and_threads(void) {
    static float y[COUNT + 3];
    static union { unsigned char bytes[ROWS * 32 + 64]; double align; } memory;
    const int64_t shape[] = {ROWS, COLUMNS}, strides[] = {32, 4};
    convc_options options = with_threads(0);
    convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, shape);
    convc_tensor out = convc_tensor_of(y, CONVC_FLOAT, 32, 2, shape);
    convc_context context;
    uintptr_t place = ((uintptr_t)memory.bytes + 63) & ~(uintptr_t)63;
    options.parallel_for = host_parallel_for;
    options.pool = &tasks_seen;
    options.workspace = (void *)place;
    options.workspace_size = ROWS * 32;
    in.strides = strides;
    out.byte_offset = 3 * sizeof(float);
    check(convc_context_init(&context, &scale_model, &options) == CONVC_OK, "context in the host's memory");
    check(convc_run(&context, 0, &in, 1, &out, 1) == CONVC_OK, convc_context_message(&context));
    check(is_scaled(y + 3, 2) && tasks_seen == ROWS, "the host's parallel_for");
    convc_context_release(&context);

    options.workspace_size = ROWS * 32 - 1;
    convc_context_init(&context, &scale_model, &options);
    check(convc_run(&context, 0, &in, 1, &out, 1) == CONVC_ERROR_WORKSPACE, "workspace too small");
    check(context.error.expected == ROWS * 32 && context.error.got == ROWS * 32 - 1, "workspace bytes");
    convc_context_release(&context);
    options.workspace = (void *)(place + 4);
    options.workspace_size = ROWS * 32;
    convc_context_init(&context, &scale_model, &options);
    check(convc_run(&context, 0, &in, 1, &out, 1) == CONVC_ERROR_ALIGNMENT, "workspace alignment");
    convc_context_release(&context);
}

static void expect(convc_context *context, const convc_tensor *in, int32_t ins, const convc_tensor *out,
                   int32_t outs, int32_t entry, int32_t wanted, const char *message) {
    int32_t status = convc_run(context, entry, in, ins, out, outs);
    check(status == wanted, convc_status_text(wanted));
    if (strcmp(convc_context_message(context), message) != 0)
        fprintf(stderr, "expected \"%s\", got \"%s\"\n", message, convc_context_message(context)), failures++;
}

static void test_batches_past_all_memory(void) {
    static float y[COUNT];
    const int64_t shape[] = {ROWS, COLUMNS}, absurd[] = {(int64_t)1 << 61, COLUMNS}, large[] = {(int64_t)1 << 57, COLUMNS};
    const char *wrong = "scale: input 0: dimension 0: wrong shape: got 2305843009213693952";
    convc_options options = with_threads(1);
    convc_context *c = create(&scale_model, &options), *d;
    convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, absurd), out = convc_tensor_of(y, CONVC_FLOAT, 32, 2, absurd);
    convc_entry entry = *convc_entry_at(&scale_model, 0);
    convc_model greedy = scale_model;
    expect(c, &in, 1, &out, 1, 0, CONVC_ERROR_SHAPE, wrong);
    in.shape = out.shape = large;
    expect(c, &in, 1, &out, 1, 0, CONVC_ERROR_MEMORY, "scale: out of memory (13)");
    convc_context_destroy(c);
    check(convc_workspace_size(&scale_model, 0, (int64_t)1 << 57) == (int64_t)1 << 62, "a large workspace's size");
    check(convc_workspace_size(&scale_model, 0, (int64_t)1 << 58) == -1, "a workspace past all numbers");
    check(convc_workspace_size(&scale_model, 0, -1) == -1, "a workspace for a negative batch");

    entry.workspace.coefficient = (int64_t)(UINT64_MAX / ROWS + 1); /* wraps to less than 64 */
    greedy.entries = &entry;
    d = create(&greedy, &options);
    in.shape = out.shape = shape;
    expect(d, &in, 1, &out, 1, 0, CONVC_ERROR_MEMORY, "scale: out of memory");
    convc_context_destroy(d);
}

static void test_errors(void) {
    static float y[COUNT];
    const int64_t shape[] = {ROWS, COLUMNS}, narrow[] = {ROWS, 7}, fewer[] = {ROWS - 1, COLUMNS}, minus[] = {-1, 8};
    const int64_t columns[] = {4, 4 * ROWS};
    convc_options options = with_threads(1);
    convc_context *c = create(&scale_model, &options);
    const convc_tensor good = convc_tensor_of(x, CONVC_FLOAT, 32, 2, shape);
    const convc_tensor out = convc_tensor_of(y, CONVC_FLOAT, 32, 2, shape);
    convc_tensor bad = good;
    expect(c, &good, 1, &out, 1, 5, CONVC_ERROR_ENTRY, "scale: no such entry: expected 1, got 5");
    expect(c, &good, 0, &out, 1, 0, CONVC_ERROR_COUNT, "scale: inputs: wrong number of tensors: expected 1, got 0");
    expect(c, &good, 1, &out, 2, 0, CONVC_ERROR_COUNT, "scale: outputs: wrong number of tensors: expected 1, got 2");
    bad.code = CONVC_INT;
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_DTYPE,
           "scale: input 0: wrong dtype: expected type code 2 with 32 bits, got type code 0 with 32 bits");
    bad = good;
    bad.rank = 1;
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_RANK, "scale: input 0: wrong rank: expected 2, got 1");
    bad = convc_tensor_of(x, CONVC_FLOAT, 32, 2, narrow);
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_SHAPE, "scale: input 0: dimension 1: wrong shape: expected 8, got 7");
    bad = convc_tensor_of(x, CONVC_FLOAT, 32, 2, minus);
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_SHAPE, "scale: input 0: dimension 0: wrong shape: got -1");
    bad = convc_tensor_of(y, CONVC_FLOAT, 32, 2, fewer);
    expect(c, &good, 1, &bad, 1, 0, CONVC_ERROR_SHAPE, "scale: output 0: dimension 0: wrong shape: expected 37, got 36");
    bad = good;
    bad.strides = columns;
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_STRIDES, "scale: input 0: dimension 1: not C-contiguous: expected 4, got 148");
    bad = good;
    bad.device_type = CONVC_CUDA;
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_DEVICE, "scale: input 0: not in the CPU's memory: expected 1, got 2");
    bad = good;
    bad.data = NULL;
    expect(c, &bad, 1, &out, 1, 0, CONVC_ERROR_ARGUMENT, "scale: input 0: null pointer or struct of the wrong size");
    bad = good;
    bad.size = 8;
    check(convc_run(c, 0, &bad, 1, &out, 1) == CONVC_ERROR_ARGUMENT, "small struct");
    check(convc_run(c, 0, &good, 1, &out, 1) == CONVC_OK && is_scaled(y, 2), "a good run after bad ones");
    convc_context_destroy(c);
}

static void test_other_models_are_refused(void) {
    convc_model other = scale_model;
    convc_context *context = NULL;
    other.abi_version = 2;
    check(convc_context_create(&other, NULL, &context) == CONVC_ERROR_VERSION, "ABI version");
    check(!strcmp(convc_context_message(context), "scale: ABI version 2, this program was built for 1"), "its message");
    convc_context_destroy(context);
}

static void *worker(void *argument) {
    static const int64_t shape[] = {ROWS, COLUMNS};
    float y[COUNT];
    int i, *ok = argument;
    convc_options options = with_threads(2);
    convc_context *context = create(&triple_model, &options);
    const convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, shape), out = convc_tensor_of(y, CONVC_FLOAT, 32, 2, shape);
    *ok = 1;
    for (i = 0; i < 200; i++) *ok &= convc_run(context, 0, &in, 1, &out, 1) == CONVC_OK && is_scaled(y, 3);
    convc_context_destroy(context);
    return NULL;
}

static void test_concurrent_contexts(void) {
    pthread_t threads[4];
    int ok[4], i;
    for (i = 0; i < 4; i++) pthread_create(&threads[i], NULL, worker, &ok[i]);
    for (i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    for (i = 0; i < 4; i++) check(ok[i], "concurrent contexts");
}

static void test_idle_threads_sleep(void) {
    static float y[COUNT];
    const int64_t shape[] = {ROWS, COLUMNS};
    const convc_tensor in = convc_tensor_of(x, CONVC_FLOAT, 32, 2, shape), out = convc_tensor_of(y, CONVC_FLOAT, 32, 2, shape);
    const struct timespec pause = {0, 200000000};
    convc_options options = with_threads(3);
    convc_context *context = create(&scale_model, &options);
    clock_t before;
    convc_run(context, 0, &in, 1, &out, 1);
    before = clock();
    nanosleep(&pause, NULL);
    check(clock() - before < CLOCKS_PER_SEC / 50, "idle threads sleep");
    convc_context_destroy(context);
}

int main(void) {
    int i;
    for (i = 0; i < COUNT; i++) x[i] = (float)i / 4;
    test_description();
    test_two_models();
    test_host_memory_and_threads();
    test_errors();
    test_batches_past_all_memory();
    test_other_models_are_refused();
    test_concurrent_contexts();
    test_idle_threads_sleep();
    if (failures) return 1;
    puts("ok");
    return 0;
}
