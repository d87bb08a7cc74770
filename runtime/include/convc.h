/*
 * The C interface of models that convc compiled (convc.h, ABI version 1).
 *
 * A model compiled to digits.so or digits.o comes with digits.h, named like the file, which declares
 *
 *     extern const convc_model digits_model;
 *
 * Everything about it is read from there, and its functions are called through it; nothing else of
 * a model is visible, so that any number of models link into one program. The model is immutable
 * and shared by all threads. A context holds what one run at a time needs (workspace, a pool of
 * threads): use one per thread. It holds the state of a model that trains as well: convc_state.h.
 *
 *     convc_context *context;
 *     int32_t status = convc_context_create(&digits_model, NULL, &context);
 *     int64_t in_shape[] = {batch, 8, 8, 1}, out_shape[] = {batch, 10};
 *     convc_tensor input = convc_tensor_of(images, CONVC_FLOAT, 32, 4, in_shape);
 *     convc_tensor output = convc_tensor_of(scores, CONVC_FLOAT, 32, 2, out_shape);
 *     if (!status) status = convc_run(context, DIGITS_PREDICT, &input, 1, &output, 1);
 *     if (status) fprintf(stderr, "%s\n", convc_context_message(context));
 *     convc_context_destroy(context);
 *
 * The first part are the structs, which is all that other languages need: a model's functions take
 * and return nothing else. Every struct begins with its size in bytes, so that later versions add
 * fields at the end; step through arrays of a model's structs by the size that they tell. The second
 * part are helpers that are compiled into the program. The services are those of POSIX threads
 * and Linux unless CONVC_NO_SERVICES is defined: then a host brings its own, or its own parallel_for.
 */
#ifndef CONVC_H
#define CONVC_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef CONVC_NO_SERVICES
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CONVC_ABI_VERSION 1
#define CONVC_WORKSPACE_ALIGNMENT 64

/* What functions return. Any other number came from the entry itself. */
enum convc_status {
    CONVC_OK = 0,
    CONVC_ERROR_ARGUMENT = 1,  /* a null pointer, or a struct smaller than this version's */
    CONVC_ERROR_VERSION = 2,   /* the model was made for another ABI version */
    CONVC_ERROR_CPU = 3,       /* this CPU lacks features that the model needs */
    CONVC_ERROR_ENTRY = 4,     /* there is no such entry */
    CONVC_ERROR_COUNT = 5,     /* too many or too few tensors */
    CONVC_ERROR_DTYPE = 6,
    CONVC_ERROR_RANK = 7,
    CONVC_ERROR_SHAPE = 8,
    CONVC_ERROR_STRIDES = 9,   /* a tensor that isn't C-contiguous */
    CONVC_ERROR_DEVICE = 10,
    CONVC_ERROR_WORKSPACE = 11, /* too small */
    CONVC_ERROR_ALIGNMENT = 12, /* a workspace that is not 64-byte aligned, or missing */
    CONVC_ERROR_MEMORY = 13,   /* the system grants no more */
    CONVC_ERROR_STATE = 14,    /* no such state, or none given to a model that has one */
    CONVC_ERROR_FILE = 15,     /* a file that can't be read or written */
    CONVC_ERROR_DAMAGED = 16,  /* no saved state, or one that was truncated or altered */
    CONVC_ERROR_MODEL = 17,    /* a saved state of another model */
    CONVC_ERROR_REQUIREMENT = 256 /* and up: data that need more than the model was compiled for, see its header */
};

/* Type codes and device types, numbered as in DLPack. */
enum convc_type_code { CONVC_INT = 0, CONVC_UINT = 1, CONVC_FLOAT = 2, CONVC_BFLOAT = 4, CONVC_BOOL = 6 };
enum convc_device_type { CONVC_CPU = 1, CONVC_CUDA = 2 };

/* constant + coefficient * symbols[symbol]; symbol is -1 where there is none. */
typedef struct convc_extent {
    int64_t constant;
    int64_t coefficient;
    int64_t symbol;
} convc_extent;

/* An input or output as the model describes it. */
typedef struct convc_tensor_info {
    uint64_t size;
    const char *name;
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
    int32_t rank;
    const convc_extent *shape;
} convc_tensor_info;

/* An array as the host describes it. */
typedef struct convc_tensor {
    uint64_t size;
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t rank;
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
    const int64_t *shape;
    const int64_t *strides; /* in bytes; NULL: C-contiguous, which everything else must equal */
    uint64_t byte_offset;   /* from data to the first element */
} convc_tensor;

/* Calls function(arguments, begin, end) for ranges that cover [0, tasks), from any threads, and returns when
   all have ended. Results don't depend on the ranges. */
typedef void (*convc_function)(void **arguments, int64_t begin, int64_t end);
typedef void (*convc_parallel_for)(void *pool, convc_function function, void **arguments, int64_t tasks);

/* What an entry function takes; hosts use convc_run instead, which checks. */
typedef struct convc_call {
    uint64_t size;
    const void *weights;
    void *workspace;
    void *const *inputs;
    void *const *outputs;
    const int64_t *symbols;
    convc_parallel_for parallel_for; /* NULL: everything on the caller's thread */
    void *pool;
    void *state; /* what the context keeps from call to call, aligned to 64; NULL where the model has none */
} convc_call;

typedef int32_t (*convc_entry_function)(const convc_call *call);

/* A function of the model, such as "predict". */
typedef struct convc_entry {
    uint64_t size;
    const char *name;
    int32_t inputs_count;
    int32_t outputs_count;
    const convc_tensor_info *inputs;
    const convc_tensor_info *outputs;
    convc_extent workspace; /* exact bytes of scratch memory for a run */
    convc_entry_function function;
} convc_entry;

/* What was wrong with a run: the fields that don't apply are -1 (tensor, dimension) or 0. */
typedef struct convc_error {
    uint64_t size;
    int32_t status;
    int32_t is_output;
    int32_t tensor;
    int32_t dimension;
    int64_t expected;
    int64_t got;
} convc_error;

/* One run on the host's memory. */
typedef struct convc_run_arguments {
    uint64_t size;
    int32_t entry;
    int32_t inputs_count;
    int32_t outputs_count;
    int32_t reserved;
    const convc_tensor *inputs;
    const convc_tensor *outputs;
    void *workspace;
    uint64_t workspace_size;
    convc_parallel_for parallel_for; /* NULL: everything on the caller's thread */
    void *pool;
    void *stream;                    /* for devices that have them; NULL on CPUs */
    convc_error *error;              /* may be NULL */
    void *state;                     /* the model's state_size bytes, aligned to 64; NULL where there is no state */
} convc_run_arguments;

/* What the pool needs of an operating system. wait and wake may be NULL where system_call is Linux' futex. */
typedef struct convc_services {
    uint64_t size;
    int32_t (*thread_create)(uintptr_t *thread, const void *attributes, void *(*function)(void *), void *argument);
    int32_t (*thread_join)(uintptr_t thread, void **result);
    int32_t (*wait)(uint32_t *address, uint32_t expected); /* sleep while *address == expected */
    int32_t (*wake)(uint32_t *address, int32_t count);
    long (*system_call)(long number, ...);
    int64_t futex_number;
    /* Workers that sleep are kept off the CPU of the thread that wakes them; 0 for the last to let them be. */
    int64_t gettid_number;
    int64_t getcpu_number;
    int64_t setaffinity_number;
    uint64_t cpus[16]; /* the set of CPUs that the pool may use, bit by bit */
} convc_services;

/* What a state is to the model. Control: the learning rate, the count of steps, the key of the random numbers. */
enum convc_state_kind {
    CONVC_STATE_OTHER = 0,
    CONVC_STATE_PARAMETER = 1,
    CONVC_STATE_STATISTIC = 2,
    CONVC_STATE_OPTIMIZER = 3,
    CONVC_STATE_METRIC = 4,
    CONVC_STATE_CONTROL = 5
};

/* A tensor that a context keeps from call to call, in whatever order its kernels like. */
typedef struct convc_state_info {
    uint64_t size;
    const char *name;
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
    int32_t rank;
    const int64_t *shape;
    const int64_t *strides; /* in bytes */
    uint64_t offset;        /* from the start of the context's state */
    int32_t kind;
    int32_t reserved;
} convc_state_info;

typedef struct convc_model convc_model;
struct convc_model {
    uint64_t size;
    uint32_t abi_version;
    int32_t symbols_count;
    int32_t entries_count;
    int32_t cpu_features_count;
    const char *name;
    const char *const *symbols;      /* the names of symbolic dimensions, such as "N" */
    const char *const *cpu_features; /* the i-th is bit i of check's result */
    const void *weights;
    const convc_entry *entries;
    uint64_t weights_size;
    const char *compiler;
    /* The CPU features that are missing here. Runs anywhere; must be 0 before run or invoke is called. */
    uint64_t (*check)(void);
    /* Checks everything that is described, then runs. Any number of threads at once, a workspace each. */
    int32_t (*run)(const convc_model *model, const convc_run_arguments *arguments);
    /* Runs an entry function unchecked, under the floating-point mode that results depend on. */
    int32_t (*invoke)(convc_entry_function function, const convc_call *call);
    /* The pool: bytes of memory for so many threads, the caller's included; start in memory that is zero and
       aligned to 128, which gives the threads there are; end; and the parallel_for to run with. A child of fork
       must see zeros in that memory (MADV_WIPEONFORK): it then runs on its own thread. */
    int64_t (*pool_size)(int32_t threads);
    int32_t (*pool_create)(void *pool, const convc_services *services, int32_t threads);
    void (*pool_destroy)(void *pool);
    convc_parallel_for pool_for;
    /* What contexts keep. Their state begins as initial_state, with zeros behind it. */
    int32_t states_count;
    int32_t reserved;
    const convc_state_info *states;
    uint64_t state_size;
    const void *initial_state;
    uint64_t initial_state_size;
    uint8_t state_fingerprint[32]; /* of the states' names, kinds, dtypes and shapes: whose saved states fit */
};

/* ------------------------------------------------------------------ helpers, compiled into the program */

/* The i-th struct of an array whose structs tell their size. */
static inline const convc_entry *convc_entry_at(const convc_model *model, int32_t index) {
    return (const convc_entry *)((const char *)model->entries + model->entries[0].size * (uint64_t)index);
}

static inline const convc_tensor_info *convc_tensor_at(const convc_tensor_info *tensors, int32_t index) {
    return (const convc_tensor_info *)((const char *)tensors + tensors[0].size * (uint64_t)index);
}

/* The index of the entry of that name, -1 if there is none. */
static inline int32_t convc_find_entry(const convc_model *model, const char *name) {
    int32_t i;
    for (i = 0; i < model->entries_count; i++)
        if (strcmp(convc_entry_at(model, i)->name, name) == 0) return i;
    return -1;
}

/* An extent as a number; symbols in the order of model->symbols. */
static inline int64_t convc_evaluate(convc_extent extent, const int64_t *symbols) {
    return extent.constant + (extent.symbol < 0 ? 0 : extent.coefficient * symbols[extent.symbol]);
}

/* Exact bytes of workspace that a run of the entry needs when all symbols are `batch`; -1 for a wrong entry, and for a
   batch that is negative or needs more bytes than there are numbers for. */
static inline int64_t convc_workspace_size(const convc_model *model, int32_t entry, int64_t batch) {
    convc_extent extent;
    if (entry < 0 || entry >= model->entries_count || batch < 0) return -1;
    extent = convc_entry_at(model, entry)->workspace;
    if (extent.coefficient > 0 && batch > (INT64_MAX - extent.constant) / extent.coefficient) return -1;
    return extent.constant + extent.coefficient * batch;
}

/* A C-contiguous array on the CPU. `shape` is not copied. */
static inline convc_tensor convc_tensor_of(const void *data, int code, int bits, int32_t rank, const int64_t *shape) {
    convc_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    tensor.size = sizeof tensor;
    tensor.data = (void *)(uintptr_t)data;
    tensor.device_type = CONVC_CPU;
    tensor.rank = rank;
    tensor.code = (uint8_t)code;
    tensor.bits = (uint8_t)bits;
    tensor.lanes = 1;
    tensor.shape = shape;
    return tensor;
}

/* A status in words; convc_context_message says more. */
static inline const char *convc_status_text(int32_t status) {
    switch (status) {
    case CONVC_OK: return "ok";
    case CONVC_ERROR_ARGUMENT: return "null pointer or struct of the wrong size";
    case CONVC_ERROR_VERSION: return "model made for another ABI version";
    case CONVC_ERROR_CPU: return "this CPU lacks features that the model needs";
    case CONVC_ERROR_ENTRY: return "no such entry";
    case CONVC_ERROR_COUNT: return "wrong number of tensors";
    case CONVC_ERROR_DTYPE: return "wrong dtype";
    case CONVC_ERROR_RANK: return "wrong rank";
    case CONVC_ERROR_SHAPE: return "wrong shape";
    case CONVC_ERROR_STRIDES: return "not C-contiguous";
    case CONVC_ERROR_DEVICE: return "not in the CPU's memory";
    case CONVC_ERROR_WORKSPACE: return "workspace too small";
    case CONVC_ERROR_ALIGNMENT: return "workspace not aligned to 64 bytes";
    case CONVC_ERROR_MEMORY: return "out of memory";
    case CONVC_ERROR_STATE: return "no such state, or none that is aligned to 64 bytes";
    case CONVC_ERROR_FILE: return "can't read or write the file";
    case CONVC_ERROR_DAMAGED: return "not a saved state, or a damaged one";
    case CONVC_ERROR_MODEL: return "another model's state";
    case CONVC_ERROR_REQUIREMENT: return "data that need more than the model was compiled for";
    default: return status > CONVC_ERROR_REQUIREMENT ? convc_status_text(CONVC_ERROR_REQUIREMENT) : "the entry failed";
    }
}

/* How a context comes to its threads and memory; zero is the default for every field but size. */
typedef struct convc_options {
    uint64_t size;
    int32_t threads;                 /* of the default pool, the caller's included; 0: all CPUs we may use */
    int32_t reserved;
    convc_parallel_for parallel_for; /* the host's own instead of the default pool */
    void *pool;                      /* its first argument */
    void *workspace;                 /* the host's own; NULL: allocated, and grown when a batch needs more */
    uint64_t workspace_size;
    const convc_services *services;  /* the host's own for the default pool; NULL: POSIX threads and futex */
    void *state;                     /* the host's own, taken as it is; NULL: allocated, with the first values */
} convc_options;

typedef struct convc_context {
    uint64_t size;
    const convc_model *model;
    void *workspace;
    uint64_t workspace_size;
    void *allocated; /* what free takes; NULL where the workspace is the host's */
    int32_t owns_workspace;
    int32_t threads;
    convc_parallel_for parallel_for;
    void *pool;
    uint64_t pool_bytes; /* of the default pool; 0 where there is none */
    void *state;
    void *allocated_state; /* what free takes; NULL where the state is the host's */
    convc_error error;
    char message[256];
} convc_context;

/* What the last function on this context had to say: one line. `context` may be NULL. */
static inline const char *convc_context_message(const convc_context *context) {
    return context ? context->message : "out of memory";
}

static inline int32_t convc_report(convc_context *context, int32_t status) {
    const convc_error *e = &context->error;
    const char *what = convc_status_text(status);
    char where[96] = "";
    if (e->tensor >= 0) {
        snprintf(where, sizeof where, "%s %d: ", e->is_output ? "output" : "input", (int)e->tensor);
        if (e->dimension >= 0)
            snprintf(where + strlen(where), sizeof where - strlen(where), "dimension %d: ", (int)e->dimension);
    } else if (status == CONVC_ERROR_COUNT) {
        snprintf(where, sizeof where, "%s: ", e->is_output ? "outputs" : "inputs");
    }
    if (status == CONVC_ERROR_DTYPE)
        snprintf(context->message, sizeof context->message,
                 "%s: %s%s: expected type code %d with %d bits, got type code %d with %d bits", context->model->name,
                 where, what, (int)(e->expected & 255), (int)(e->expected >> 8 & 255), (int)(e->got & 255),
                 (int)(e->got >> 8 & 255));
    else if (e->status == status && status != CONVC_OK && e->expected != e->got)
        snprintf(context->message, sizeof context->message, "%s: %s%s: expected %lld, got %lld", context->model->name,
                 where, what, (long long)e->expected, (long long)e->got);
    else if (e->status == status && status == CONVC_ERROR_SHAPE) /* the first to use a symbol, which can't be negative */
        snprintf(context->message, sizeof context->message, "%s: %s%s: got %lld", context->model->name, where, what,
                 (long long)e->got);
    else if (e->status == status && status != CONVC_OK)
        snprintf(context->message, sizeof context->message, "%s: %s%s", context->model->name, where, what);
    else
        snprintf(context->message, sizeof context->message, "%s: %s (%d)", context->model->name, what, (int)status);
    return status;
}


#ifndef CONVC_NO_SERVICES

#ifndef __cplusplus
extern long syscall(long number, ...); /* which <unistd.h> hides from strict C99 */
#endif

static inline int32_t convc_thread_create(uintptr_t *thread, const void *attributes, void *(*function)(void *),
                                          void *argument) {
    pthread_t handle;
    int failed = pthread_create(&handle, NULL, function, argument);
    (void)attributes;
    if (!failed) *thread = (uintptr_t)handle;
    return failed;
}

static inline int32_t convc_thread_join(uintptr_t thread, void **result) {
    return pthread_join((pthread_t)thread, result);
}

/* The first number in a file, and the second if there is one; 0 for what isn't there. */
static inline int convc_read_numbers(const char *path, long long *first, long long *second) {
    FILE *file = fopen(path, "r");
    int count;
    if (!file) return 0;
    count = fscanf(file, "%lld %lld", first, second);
    fclose(file);
    return count < 0 ? 0 : count;
}

/* The control group's quota in CPUs, rounded up; 0 where there is none. */
static inline int32_t convc_quota(void) {
    char line[512], path[576];
    long long quota = 0, period = 0, unused = 0;
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::", 3) != 0) continue;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", line + 3);
        if (convc_read_numbers(path, &quota, &period) == 2) break;
    }
    if (file) fclose(file);
    if (period <= 0) convc_read_numbers("/sys/fs/cgroup/cpu.max", &quota, &period);
    if (period <= 0) {
        convc_read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota, &unused);
        convc_read_numbers("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period, &unused);
    }
    return quota > 0 && period > 0 ? (int32_t)((quota + period - 1) / period) : 0;
}

/* CPUs that this process may use, by affinity and quota. */
static inline int32_t convc_available_cpus(void) {
    unsigned char mask[1024];
    int32_t count = 0, quota = convc_quota();
    long i, bytes = syscall(SYS_sched_getaffinity, 0L, sizeof mask, mask);
    for (i = 0; i < bytes * 8; i++) count += mask[i / 8] >> (i % 8) & 1;
    if (quota > 0 && quota < count) count = quota;
    return count > 0 ? count : 1;
}

static inline convc_services convc_default_services(void) {
    convc_services services;
    memset(&services, 0, sizeof services);
    services.size = sizeof services;
    services.thread_create = convc_thread_create;
    services.thread_join = convc_thread_join;
    services.system_call = syscall;
    services.futex_number = SYS_futex;
    services.gettid_number = SYS_gettid;
    services.getcpu_number = SYS_getcpu;
    services.setaffinity_number =
        syscall(SYS_sched_getaffinity, 0L, sizeof services.cpus, services.cpus) > 0 ? SYS_sched_setaffinity : 0;
    return services;
}

/* Zeroed pages that a child of fork sees as zeros; NULL if there are none. */
static inline void *convc_pool_memory(uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | 0x20 /* MAP_ANONYMOUS */, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    syscall(SYS_madvise, memory, bytes, 18L /* MADV_WIPEONFORK */);
    return memory;
}

static inline int32_t convc_start_pool(convc_context *context, const convc_services *services, int32_t threads) {
    const convc_model *model = context->model;
    convc_services defaults = convc_default_services();
    uint64_t bytes;
    if (threads == 0) threads = convc_available_cpus();
    context->threads = 1;
    if (threads <= 1) return CONVC_OK;
    bytes = (uint64_t)model->pool_size(threads);
    context->pool = convc_pool_memory(bytes);
    if (!context->pool) return CONVC_ERROR_MEMORY;
    context->pool_bytes = bytes;
    context->threads = model->pool_create(context->pool, services ? services : &defaults, threads);
    context->parallel_for = model->pool_for;
    return CONVC_OK;
}

static inline void convc_stop_pool(convc_context *context) {
    if (!context->pool_bytes) return;
    context->model->pool_destroy(context->pool);
    munmap(context->pool, context->pool_bytes);
    context->pool_bytes = 0;
}

#else

static inline int32_t convc_start_pool(convc_context *context, const convc_services *services, int32_t threads) {
    (void)services;
    context->threads = 1;
    return threads <= 1 ? CONVC_OK : CONVC_ERROR_ARGUMENT;
}

static inline void convc_stop_pool(convc_context *context) { (void)context; }

#endif

/* Whether this program and this CPU can run the model. */
static inline int32_t convc_check_model(convc_context *context) {
    const convc_model *model = context->model;
    uint64_t missing;
    size_t used;
    int32_t i;
    if (model->abi_version != CONVC_ABI_VERSION || model->size < offsetof(convc_model, states_count)) {
        snprintf(context->message, sizeof context->message, "%s: ABI version %u, this program was built for %d",
                 model->name, (unsigned)model->abi_version, CONVC_ABI_VERSION);
        return CONVC_ERROR_VERSION;
    }
    missing = model->check();
    if (!missing) return CONVC_OK;
    snprintf(context->message, sizeof context->message, "%s: this CPU lacks", model->name);
    for (i = 0; i < model->cpu_features_count; i++) {
        used = strlen(context->message);
        if (missing >> i & 1)
            snprintf(context->message + used, sizeof context->message - used, " %s", model->cpu_features[i]);
    }
    return CONVC_ERROR_CPU;
}

/* Bytes of a context's state; 0 where the model has none. */
static inline uint64_t convc_state_size(const convc_model *model) {
    return model->size < sizeof *model ? 0 : model->state_size;
}

/* Gives every state its first value. */
static inline void convc_reset_state(convc_context *context) {
    const convc_model *model = context->model;
    const uint64_t size = convc_state_size(model);
    if (!size || !context->state) return;
    memset(context->state, 0, size);
    if (model->initial_state_size) memcpy(context->state, model->initial_state, model->initial_state_size);
}

/* Memory for the state, unless the host brought it. */
static inline int32_t convc_start_state(convc_context *context) {
    const uint64_t size = convc_state_size(context->model);
    if (!size || context->state) return CONVC_OK;
    if (size <= SIZE_MAX - CONVC_WORKSPACE_ALIGNMENT)
        context->allocated_state = malloc(size + CONVC_WORKSPACE_ALIGNMENT);
    if (!context->allocated_state) return CONVC_ERROR_MEMORY;
    context->state = (void *)(((uintptr_t)context->allocated_state + CONVC_WORKSPACE_ALIGNMENT - 1) &
                              ~(uintptr_t)(CONVC_WORKSPACE_ALIGNMENT - 1));
    convc_reset_state(context);
    return CONVC_OK;
}

/* A context in the host's memory; `options` may be NULL. Release it even if this fails: its message says why. */
static inline int32_t convc_context_init(convc_context *context, const convc_model *model,
                                         const convc_options *options) {
    int32_t status;
    memset(context, 0, sizeof *context);
    context->size = sizeof *context;
    context->model = model;
    context->error.size = sizeof context->error;
    context->error.tensor = context->error.dimension = -1;
    context->owns_workspace = !(options && options->workspace);
    if (options) {
        context->workspace = options->workspace;
        context->workspace_size = options->workspace ? options->workspace_size : 0;
        context->parallel_for = options->parallel_for;
        context->pool = options->pool;
        if (options->size >= sizeof *options) context->state = options->state;
    }
    status = convc_check_model(context);
    if (status) return status;
    status = convc_start_state(context);
    if (status) return convc_report(context, status);
    if (options && options->threads < 0) return convc_report(context, CONVC_ERROR_ARGUMENT);
    if (context->parallel_for) return CONVC_OK;
    status = convc_start_pool(context, options ? options->services : NULL, options ? options->threads : 0);
    return status ? convc_report(context, status) : CONVC_OK;
}

static inline void convc_context_release(convc_context *context) {
    convc_stop_pool(context);
    free(context->allocated);
    free(context->allocated_state);
    context->allocated = context->allocated_state = NULL;
}

/* A new context. If this fails, *context is still one, for its message; it is NULL if there is no memory. */
static inline int32_t convc_context_create(const convc_model *model, const convc_options *options,
                                           convc_context **context) {
    *context = (convc_context *)malloc(sizeof **context);
    return *context ? convc_context_init(*context, model, options) : CONVC_ERROR_MEMORY;
}

static inline void convc_context_destroy(convc_context *context) {
    if (!context) return;
    convc_context_release(context);
    free(context);
}

/* Room for runs that need so many bytes; what was there before is lost. */
static inline int32_t convc_reserve_workspace(convc_context *context, uint64_t bytes) {
    void *memory = NULL;
    uintptr_t place;
    if (bytes <= SIZE_MAX - CONVC_WORKSPACE_ALIGNMENT) memory = malloc(bytes + CONVC_WORKSPACE_ALIGNMENT);
    if (!memory) return convc_report(context, CONVC_ERROR_MEMORY);
    free(context->allocated);
    context->allocated = memory;
    place = ((uintptr_t)memory + CONVC_WORKSPACE_ALIGNMENT - 1) & ~(uintptr_t)(CONVC_WORKSPACE_ALIGNMENT - 1);
    context->workspace = (void *)place;
    context->workspace_size = bytes;
    return CONVC_OK;
}

/* Run an entry on arrays in the host's memory. Returns CONVC_OK or a status that the context's message explains. */
static inline int32_t convc_run(convc_context *context, int32_t entry, const convc_tensor *inputs,
                                int32_t inputs_count, const convc_tensor *outputs, int32_t outputs_count) {
    convc_run_arguments run;
    int32_t status;
    memset(&run, 0, sizeof run);
    run.size = sizeof run;
    run.entry = entry;
    run.inputs_count = inputs_count;
    run.outputs_count = outputs_count;
    run.inputs = inputs;
    run.outputs = outputs;
    run.parallel_for = context->parallel_for;
    run.pool = context->pool;
    run.error = &context->error;
    run.state = context->state;
    context->error.status = CONVC_OK;
    context->error.tensor = context->error.dimension = -1;
    context->message[0] = 0;
    for (;;) {
        run.workspace = context->workspace;
        run.workspace_size = context->workspace_size;
        status = context->model->run(context->model, &run);
        if (status != CONVC_ERROR_WORKSPACE || !context->owns_workspace) break;
        status = convc_reserve_workspace(context, (uint64_t)context->error.expected);
        if (status) return status;
    }
    return status ? convc_report(context, status) : CONVC_OK;
}

#ifdef __cplusplus
}
#endif

#endif
