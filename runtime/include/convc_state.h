/*
 * The state of a model that trains (convc_state.h): parameters, what the optimizer keeps for them, the
 * sums of metrics, the learning rate. `convc compile model.py --train -o model.o` makes such a model.
 *
 * A context owns a block of memory with all of it, which begins with the values that the script's model
 * had; its entries read it and replace it where it is:
 *
 *     convc_run(context, MODEL_TRAIN_STEP, batch, 2, &loss, 1);   a step on a batch of any size
 *     convc_run(context, MODEL_METRICS, NULL, 0, means, 2);       loss and metrics since the last reset
 *     convc_run(context, MODEL_PREDICT, &images, 1, &scores, 1);  with the parameters as they are now
 *
 * States go by name; they are read and written as C-contiguous arrays in the shape that the script's
 * variables have, whatever order they lie in.
 *
 * Threads: one context, one call at a time, and that goes for every function here. Contexts of one model
 * are independent of one another, so that any number of them train at once. Threads that only predict may share
 * one state: give their contexts the first one's `context->state` as convc_options.state, and let none of them
 * train meanwhile. A step uses the context's pool of threads by itself; results don't depend on their number.
 *
 * A saved state is the same for all machines and for convc_runtime in Python (convc_runtime/state.py
 * describes it): it is checked as a whole before anything is taken over.
 *
 * Functions return CONVC_OK or a convc_status that convc_context_message explains.
 */
#ifndef CONVC_STATE_H
#define CONVC_STATE_H

#include <errno.h>

#include "convc.h"
#ifndef CONVC_NO_SERVICES
#include <fcntl.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CONVC_STATE_VERSION 1
enum { CONVC_STATE_HEADER = 64, CONVC_MOST_DIMENSIONS = 16 };

/* The i-th state, from 0 to model->states_count - 1. */
static inline const convc_state_info *convc_state_at(const convc_model *model, int32_t index) {
    return (const convc_state_info *)((const char *)model->states + model->states[0].size * (uint64_t)index);
}

/* The number of states; 0 for a model that doesn't train. */
static inline int32_t convc_states_count(const convc_model *model) {
    return convc_state_size(model) ? model->states_count : 0;
}

/* The index of the state of that name, -1 if there is none. */
static inline int32_t convc_find_state(const convc_model *model, const char *name) {
    int32_t i;
    for (i = 0; i < convc_states_count(model); i++)
        if (strcmp(convc_state_at(model, i)->name, name) == 0) return i;
    return -1;
}

/* The bytes of a state as a C-contiguous array. */
static inline uint64_t convc_state_bytes(const convc_state_info *info) {
    uint64_t bytes = (info->bits + 7u) / 8u;
    int32_t d;
    for (d = 0; d < info->rank; d++) bytes *= (uint64_t)info->shape[d];
    return bytes;
}

/* Leaves a message in the context and returns the status. */
static inline int32_t convc_state_fails(convc_context *context, int32_t status, const char *where, const char *what) {
    snprintf(context->message, sizeof context->message, "%s: %s: %s", context->model->name, where, what);
    return status;
}

/* ------------------------------------------------------------------ one state */

/* Copies a state into a C-contiguous array, or such an array into the state. */
static inline void convc_copy_state(void *state, const convc_state_info *info, void *dense, int into_state) {
    const uint64_t item = (info->bits + 7u) / 8u, bytes = convc_state_bytes(info);
    int64_t index[CONVC_MOST_DIMENSIONS] = {0};
    char *first = (char *)state + info->offset, *other = (char *)dense, *place;
    uint64_t done;
    int32_t d;
    for (done = 0; done < bytes; done += item) {
        place = first;
        for (d = 0; d < info->rank; d++) place += index[d] * info->strides[d];
        memcpy(into_state ? place : other + done, into_state ? other + done : place, item);
        for (d = info->rank - 1; d >= 0 && ++index[d] == info->shape[d]; d--) index[d] = 0;
    }
}

/* The state of that name, NULL after a message if there is none. */
static inline const convc_state_info *convc_named_state(convc_context *context, const char *name) {
    const int32_t index = convc_find_state(context->model, name);
    const convc_state_info *info = index < 0 ? NULL : convc_state_at(context->model, index);
    if (info && info->rank <= CONVC_MOST_DIMENSIONS) return info;
    convc_state_fails(context, CONVC_ERROR_STATE, name, index < 0 ? "no such state" : "too many dimensions");
    return NULL;
}

/* Whether an array is one for a state: of its dtype and shape, C-contiguous, on the CPU. */
static inline int32_t convc_check_state(convc_context *context, const convc_state_info *info, const convc_tensor *t) {
    int64_t stride = (info->bits + 7) / 8;
    char what[96];
    int32_t d;
    if (!t || !t->data || t->size < sizeof *t || (t->rank > 0 && !t->shape))
        return convc_state_fails(context, CONVC_ERROR_ARGUMENT, info->name, convc_status_text(CONVC_ERROR_ARGUMENT));
    if (t->device_type != CONVC_CPU)
        return convc_state_fails(context, CONVC_ERROR_DEVICE, info->name, convc_status_text(CONVC_ERROR_DEVICE));
    if (t->code != info->code || t->bits != info->bits || t->lanes != info->lanes) {
        snprintf(what, sizeof what, "wrong dtype: expected type code %d with %d bits, got type code %d with %d bits",
                 (int)info->code, (int)info->bits, (int)t->code, (int)t->bits);
        return convc_state_fails(context, CONVC_ERROR_DTYPE, info->name, what);
    }
    if (t->rank != info->rank) {
        snprintf(what, sizeof what, "wrong rank: expected %d, got %d", (int)info->rank, (int)t->rank);
        return convc_state_fails(context, CONVC_ERROR_RANK, info->name, what);
    }
    for (d = t->rank - 1; d >= 0; d--) {
        if (t->shape[d] != info->shape[d]) {
            snprintf(what, sizeof what, "dimension %d: wrong shape: expected %lld, got %lld", (int)d,
                     (long long)info->shape[d], (long long)t->shape[d]);
            return convc_state_fails(context, CONVC_ERROR_SHAPE, info->name, what);
        }
        if (t->strides && t->shape[d] != 1 && t->strides[d] != stride)
            return convc_state_fails(context, CONVC_ERROR_STRIDES, info->name, "not C-contiguous");
        stride *= t->shape[d];
    }
    return CONVC_OK;
}

static inline int32_t convc_move_state(convc_context *context, const char *name, const convc_tensor *values,
                                       int into_state) {
    const convc_state_info *info = convc_named_state(context, name);
    int32_t status;
    if (!info) return CONVC_ERROR_STATE;
    status = convc_check_state(context, info, values);
    if (status) return status;
    convc_copy_state(context->state, info, (char *)values->data + values->byte_offset, into_state);
    return CONVC_OK;
}

/* Copies a state into the host's array of its dtype and shape. */
static inline int32_t convc_get_state(convc_context *context, const char *name, const convc_tensor *values) {
    return convc_move_state(context, name, values, 0);
}

/* Gives a state the values of the host's array of its dtype and shape. */
static inline int32_t convc_set_state(convc_context *context, const char *name, const convc_tensor *values) {
    return convc_move_state(context, name, values, 1);
}

/* A number in memory of a type code and bits, as a double; or the double as such a number. 0 for unknown types. */
static inline int convc_move_number(int code, int bits, void *place, double *value, int store) {
#define CONVC_AS(type)                                                                                                \
    do {                                                                                                              \
        type number;                                                                                                  \
        if (store) number = (type)*value, memcpy(place, &number, sizeof number);                                      \
        else memcpy(&number, place, sizeof number), *value = (double)number;                                          \
        return 1;                                                                                                     \
    } while (0)
    if (code == CONVC_FLOAT && bits == 32) CONVC_AS(float);
    if (code == CONVC_FLOAT && bits == 64) CONVC_AS(double);
    if (code == CONVC_INT && bits == 32) CONVC_AS(int32_t);
    if (code == CONVC_INT && bits == 64) CONVC_AS(int64_t);
    if (code == CONVC_UINT && bits == 32) CONVC_AS(uint32_t);
    if (code == CONVC_UINT && bits == 64) CONVC_AS(uint64_t);
#undef CONVC_AS
    return 0;
}

static inline int32_t convc_number_state(convc_context *context, const char *name, double *value, int store) {
    const convc_state_info *info = convc_named_state(context, name);
    if (!info) return CONVC_ERROR_STATE;
    if (info->rank != 0) return convc_state_fails(context, CONVC_ERROR_RANK, name, "not a single number");
    if (!convc_move_number(info->code, info->bits, (char *)context->state + info->offset, value, store))
        return convc_state_fails(context, CONVC_ERROR_DTYPE, name, "not a number that a double can tell");
    return CONVC_OK;
}

/* A state of one number, such as "iterations", as a double. */
static inline int32_t convc_get_number(convc_context *context, const char *name, double *value) {
    return convc_number_state(context, name, value, 0);
}

/* Sets a state of one number, such as "learning_rate", or "seed" (an integer from 0 to 2^32 - 1). */
static inline int32_t convc_set_number(convc_context *context, const char *name, double value) {
    return convc_number_state(context, name, &value, 1);
}

/* Begins the sums of the loss and the metrics anew, as at the beginning of an epoch. */
static inline void convc_reset_metrics(convc_context *context) {
    const convc_model *model = context->model;
    const convc_state_info *info;
    uint64_t at, end;
    int32_t i;
    for (i = 0; i < convc_states_count(model); i++) {
        info = convc_state_at(model, i);
        if (info->kind != CONVC_STATE_METRIC) continue;
        end = info->offset + convc_state_bytes(info);
        for (at = info->offset; at < end; at++)
            ((char *)context->state)[at] = at < model->initial_state_size ? ((const char *)model->initial_state)[at] : 0;
    }
}

/* ------------------------------------------------------------------ the whole state */

/* The bytes that a saved state of the model takes. */
static inline uint64_t convc_saved_size(const convc_model *model) {
    uint64_t total = CONVC_STATE_HEADER;
    int32_t i;
    for (i = 0; i < convc_states_count(model); i++) total += (convc_state_bytes(convc_state_at(model, i)) + 7) / 8 * 8;
    return total;
}

/* CRC-32 as in zlib and IEEE 802.3, continued from an earlier one (0 at first). */
static inline uint32_t convc_crc32(uint32_t crc, const void *data, uint64_t size) {
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const unsigned char *byte = (const unsigned char *)data;
    crc = ~crc;
    while (size--) {
        crc ^= *byte++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* Little-endian numbers in a saved state. */
static inline void convc_put(unsigned char *at, uint64_t value, int bytes) {
    int i;
    for (i = 0; i < bytes; i++) at[i] = (unsigned char)(value >> 8 * i);
}

static inline uint64_t convc_take(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    int i;
    for (i = bytes - 1; i >= 0; i--) value = value << 8 | at[i];
    return value;
}

/* The checksum that a saved state of so many bytes should have: that of the whole with zeros in the checksum's place. */
static inline uint32_t convc_saved_checksum(const unsigned char *saved, uint64_t size) {
    const unsigned char zeros[4] = {0, 0, 0, 0};
    uint32_t crc = convc_crc32(0, saved, 12);
    crc = convc_crc32(crc, zeros, 4);
    return convc_crc32(crc, saved + 16, size - 16);
}

/* Writes the whole state into the host's memory of convc_saved_size bytes. */
static inline int32_t convc_save_state_to(convc_context *context, void *memory, uint64_t size) {
    const convc_model *model = context->model;
    const uint64_t needed = convc_saved_size(model);
    unsigned char *saved = (unsigned char *)memory;
    const convc_state_info *info;
    uint64_t at = CONVC_STATE_HEADER;
    int32_t i;
    if (!memory || size < needed)
        return convc_state_fails(context, CONVC_ERROR_ARGUMENT, "saved state", "less memory than convc_saved_size says");
    memset(saved, 0, needed);
    memcpy(saved, "CVCSTATE", 8);
    convc_put(saved + 8, CONVC_STATE_VERSION, 4);
    convc_put(saved + 16, needed, 8);
    if (convc_states_count(model)) memcpy(saved + 24, model->state_fingerprint, 32);
    convc_put(saved + 56, (uint64_t)convc_states_count(model), 8);
    for (i = 0; i < convc_states_count(model); i++) {
        info = convc_state_at(model, i);
        if (info->rank > CONVC_MOST_DIMENSIONS)
            return convc_state_fails(context, CONVC_ERROR_STATE, info->name, "too many dimensions");
        convc_copy_state(context->state, info, saved + at, 0);
        at += (convc_state_bytes(info) + 7) / 8 * 8;
    }
    convc_put(saved + 12, convc_saved_checksum(saved, needed), 4);
    return CONVC_OK;
}

/* What the first 64 bytes of a saved state of so many bytes say against it. */
static inline int32_t convc_check_header(convc_context *context, const char *where, const unsigned char *saved,
                                         uint64_t size) {
    char what[96];
    if (size < 8 || memcmp(saved, "CVCSTATE", 8) != 0)
        return convc_state_fails(context, CONVC_ERROR_DAMAGED, where, "not a saved state");
    if (size < CONVC_STATE_HEADER) return convc_state_fails(context, CONVC_ERROR_DAMAGED, where, "truncated");
    if (convc_take(saved + 8, 4) != CONVC_STATE_VERSION) {
        snprintf(what, sizeof what, "format version %lu, this program reads %d",
                 (unsigned long)convc_take(saved + 8, 4), CONVC_STATE_VERSION);
        return convc_state_fails(context, CONVC_ERROR_VERSION, where, what);
    }
    if (convc_take(saved + 16, 8) == size) return CONVC_OK;
    snprintf(what, sizeof what, "%s: %llu bytes, expected %llu", convc_take(saved + 16, 8) > size ? "truncated" : "altered",
             (unsigned long long)size, (unsigned long long)convc_take(saved + 16, 8));
    return convc_state_fails(context, CONVC_ERROR_DAMAGED, where, what);
}

static inline int32_t convc_check_saved(convc_context *context, const char *where, const unsigned char *saved,
                                        uint64_t size) {
    const convc_model *model = context->model;
    int32_t status = convc_check_header(context, where, saved, size);
    char what[96];
    if (status) return status;
    if (convc_take(saved + 12, 4) != convc_saved_checksum(saved, size))
        return convc_state_fails(context, CONVC_ERROR_DAMAGED, where,
                                 "altered: its checksum is not the recorded one");
    if (convc_states_count(model) && memcmp(saved + 24, model->state_fingerprint, 32) == 0 &&
        convc_take(saved + 56, 8) == (uint64_t)model->states_count && size == convc_saved_size(model))
        return CONVC_OK;
    snprintf(what, sizeof what, "another model's state: its fingerprint is %02x%02x%02x%02x", saved[24], saved[25],
             saved[26], saved[27]);
    return convc_state_fails(context, CONVC_ERROR_MODEL, where, what);
}

static inline int32_t convc_take_saved(convc_context *context, const char *where, const unsigned char *saved,
                                       uint64_t size) {
    const convc_model *model = context->model;
    const convc_state_info *info;
    uint64_t at = CONVC_STATE_HEADER;
    int32_t i, status = convc_check_saved(context, where, saved, size);
    if (status) return status;
    for (i = 0; i < model->states_count; i++) {
        info = convc_state_at(model, i);
        if (info->rank > CONVC_MOST_DIMENSIONS)
            return convc_state_fails(context, CONVC_ERROR_STATE, info->name, "too many dimensions");
        convc_copy_state(context->state, info, (void *)(uintptr_t)(saved + at), 1);
        at += (convc_state_bytes(info) + 7) / 8 * 8;
    }
    return CONVC_OK;
}

/* Takes over what convc_save_state_to wrote. If that is damaged or another model's, nothing changes. */
static inline int32_t convc_load_state_from(convc_context *context, const void *memory, uint64_t size) {
    if (!memory) return convc_state_fails(context, CONVC_ERROR_ARGUMENT, "saved state", "a null pointer");
    return convc_take_saved(context, "saved state", (const unsigned char *)memory, size);
}

/* ------------------------------------------------------------------ files */

#ifndef CONVC_NO_SERVICES

/* Writes a new file and waits until it is on the disk. 0, or errno. */
static inline int convc_write_new(const char *path, const unsigned char *data, uint64_t size) {
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    int failed = file < 0 ? errno : 0;
    while (!failed && size) {
        const ssize_t written = write(file, data, size > 1 << 30 ? 1 << 30 : (size_t)size);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) failed = errno;
        else data += written, size -= (uint64_t)written;
    }
    if (!failed && syscall(SYS_fsync, (long)file) != 0) failed = errno;
    if (file >= 0 && close(file) != 0 && !failed) failed = errno;
    return failed;
}

/* Waits until a file's new name is on the disk. */
static inline void convc_keep_name(const char *path, char *folder) {
    char *slash;
    int file;
    strcpy(folder, path);
    slash = strrchr(folder, '/');
    strcpy(slash ? slash + 1 : folder, ".");
    file = open(folder, O_RDONLY);
    if (file < 0) return;
    syscall(SYS_fsync, (long)file);
    close(file);
}

#else

static inline int convc_write_new(const char *path, const unsigned char *data, uint64_t size) {
    FILE *file = fopen(path, "wb");
    int failed;
    if (!file) return errno ? errno : -1;
    failed = fwrite(data, 1, (size_t)size, file) != size;
    if (fclose(file) != 0) failed = 1;
    return failed ? (errno ? errno : -1) : 0;
}

static inline void convc_keep_name(const char *path, char *folder) { (void)path, (void)folder; }

#endif

static inline int32_t convc_write_saved(convc_context *context, const char *path, const unsigned char *saved,
                                        uint64_t size) {
    const size_t room = strlen(path) + 8;
    char *temporary = (char *)malloc(room);
    int failed;
    if (!temporary) return convc_report(context, CONVC_ERROR_MEMORY);
    snprintf(temporary, room, "%s.part", path);
    failed = convc_write_new(temporary, saved, size);
    if (!failed && rename(temporary, path) != 0) failed = errno ? errno : -1;
    if (failed) remove(temporary);
    else convc_keep_name(path, temporary);
    free(temporary);
    if (!failed) return CONVC_OK;
    snprintf(context->message, sizeof context->message, "%s: can't write %s: %s", context->model->name, path,
             strerror(failed));
    return CONVC_ERROR_FILE;
}

/* Writes the whole state to a file, which replaces an older one only when it is complete and on the disk. Until then
   it is called PATH.part: what a killed program leaves of that is overwritten by the next. One program at a time may
   save to a path. */
static inline int32_t convc_save_state(convc_context *context, const char *path) {
    const uint64_t size = convc_saved_size(context->model);
    unsigned char *saved = (unsigned char *)malloc(size);
    int32_t status;
    if (!saved) return convc_report(context, CONVC_ERROR_MEMORY);
    status = convc_save_state_to(context, saved, size);
    if (!status) status = convc_write_saved(context, path, saved, size);
    free(saved);
    return status;
}

/* The open file's bytes. Something else than a saved state is refused before there is memory for it. */
static inline int32_t convc_read_saved(convc_context *context, const char *path, FILE *file) {
    unsigned char start[CONVC_STATE_HEADER], *saved = NULL;
    const size_t got = fread(start, 1, sizeof start, file);
    int32_t status;
    long size;
    if (ferror(file) || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
        return convc_state_fails(context, CONVC_ERROR_FILE, path, "can't read it");
    status = convc_check_header(context, path, start, got < sizeof start ? got : (uint64_t)size);
    if (status) return status;
    saved = (unsigned char *)malloc((size_t)size);
    if (!saved) return convc_report(context, CONVC_ERROR_MEMORY);
    rewind(file);
    if (fread(saved, 1, (size_t)size, file) != (size_t)size)
        status = convc_state_fails(context, CONVC_ERROR_FILE, path, "can't read it");
    else
        status = convc_take_saved(context, path, saved, (uint64_t)size);
    free(saved);
    return status;
}

/* Takes over a file of convc_save_state. If that is damaged or another model's, nothing changes. */
static inline int32_t convc_load_state(convc_context *context, const char *path) {
    FILE *file = fopen(path, "rb");
    int32_t status;
    if (!file) {
        snprintf(context->message, sizeof context->message, "%s: can't read %s: %s", context->model->name, path,
                 strerror(errno));
        return CONVC_ERROR_FILE;
    }
    status = convc_read_saved(context, path, file);
    fclose(file);
    return status;
}

#ifdef __cplusplus
}
#endif

#endif
