/*
 * Trains a small network on handwritten digits in a C program, with no framework: steps on batches of
 * the program's own memory, an evaluation after each epoch, and a state file that the next run continues
 * from. Rows of the data file are 64 pixels from 0 to 16 and the digit, a byte each.
 */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

enum { PIXELS = 64, BATCH = 48 };

typedef struct {
    int64_t count;
    uint8_t *images;
    uint8_t *labels;
} Data;

/* The whole file, pixels and labels as the bytes that they are. Returns 0 if there is nothing in it. */
static int read_data(const char *path, Data *data) {
    FILE *file = fopen(path, "rb");
    long bytes, row, pixel;
    if (!file) return 0;
    fseek(file, 0, SEEK_END);
    bytes = ftell(file);
    rewind(file);
    data->count = bytes / (PIXELS + 1);
    data->images = malloc((size_t)data->count * PIXELS * sizeof *data->images + 1);
    data->labels = malloc((size_t)data->count * sizeof *data->labels + 1);
    if (!data->images || !data->labels) data->count = 0;
    for (row = 0; row < data->count; row++) {
        for (pixel = 0; pixel < PIXELS; pixel++) data->images[row * PIXELS + pixel] = (uint8_t)fgetc(file);
        data->labels[row] = (uint8_t)fgetc(file);
    }
    fclose(file);
    return data->count > 0;
}

/* Runs a step, of training or of a test, on the rows from begin to end, in batches. */
static int32_t run_steps(convc_context *context, int32_t entry, const Data *data, int64_t begin, int64_t end) {
    for (; begin < end; begin += BATCH) {
        const int64_t count = end - begin < BATCH ? end - begin : BATCH;
        const int64_t shape[] = {count, 8, 8, 1};
        const convc_tensor batch[] = {convc_tensor_of(data->images + begin * PIXELS, CONVC_UINT, 8, 4, shape),
                                      convc_tensor_of(data->labels + begin, CONVC_UINT, 8, 1, shape)};
        float loss;
        const convc_tensor result = convc_tensor_of(&loss, CONVC_FLOAT, 32, 0, NULL);
        const int32_t status = convc_run(context, entry, batch, 2, &result, 1);
        if (status) return status;
    }
    return CONVC_OK;
}

/* The loss and the accuracy since the last call, which this one ends. */
static int32_t take_metrics(convc_context *context, float *loss, float *accuracy) {
    const convc_tensor means[] = {convc_tensor_of(loss, CONVC_FLOAT, 32, 0, NULL),
                                  convc_tensor_of(accuracy, CONVC_FLOAT, 32, 0, NULL)};
    const int32_t status = convc_run(context, DIGITS_METRICS, NULL, 0, means, 2);
    convc_reset_metrics(context);
    return status;
}

/* An epoch on four fifths of the data and an evaluation on the rest; then the state goes to the file. */
static int32_t train_epoch(convc_context *context, const Data *data, const char *path, int epoch) {
    const int64_t split = data->count * 4 / 5;
    float loss = 0, accuracy = 0, test_loss = 0, test_accuracy = 0;
    double rate = 0;
    int32_t status = run_steps(context, DIGITS_TRAIN_STEP, data, 0, split);
    if (!status) status = take_metrics(context, &loss, &accuracy);
    if (!status) status = run_steps(context, DIGITS_TEST_STEP, data, split, data->count);
    if (!status) status = take_metrics(context, &test_loss, &test_accuracy);
    if (!status) status = convc_get_number(context, "learning_rate", &rate);
    if (!status) status = convc_save_state(context, path);
    if (!status)
        printf("epoch %d loss %.9g accuracy %.9g val_loss %.9g val_accuracy %.9g learning_rate %.9g\n", epoch, loss,
               accuracy, test_loss, test_accuracy, rate);
    return status;
}

/* Continues from the state file if there is one. */
static int32_t train(convc_context *context, const Data *data, const char *path, int epochs) {
    FILE *file = fopen(path, "rb");
    double steps = 0;
    int32_t status = CONVC_OK;
    int epoch;
    if (file) {
        fclose(file);
        status = convc_load_state(context, path);
        if (!status) status = convc_get_number(context, "iterations", &steps);
        if (!status) printf("continues after %.0f steps\n", steps);
    }
    for (epoch = 1; !status && epoch <= epochs; epoch++) status = train_epoch(context, data, path, epoch);
    return status;
}

int main(int argc, char **argv) {
    convc_context *context = NULL;
    Data data = {0, NULL, NULL};
    int32_t status = CONVC_ERROR_FILE;
    if (argc != 4) {
        fprintf(stderr, "usage: %s DATA STATE EPOCHS\n", argv[0]);
        return 2;
    }
    if (!read_data(argv[1], &data)) {
        fprintf(stderr, "%s: no file, or no rows of %d bytes\n", argv[1], PIXELS + 1);
    } else {
        status = convc_context_create(&digits_model, NULL, &context);
        if (!status) status = train(context, &data, argv[2], atoi(argv[3]));
        if (status) fprintf(stderr, "%s\n", convc_context_message(context));
    }
    convc_context_destroy(context);
    free(data.images);
    free(data.labels);
    return status != CONVC_OK;
}
