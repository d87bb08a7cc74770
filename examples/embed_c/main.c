/*
 * Handwritten digits in a C program: reads 8x8 images (64 bytes each, 0 to 16) from a file and
 * prints what each one shows. The network is linked in; nothing is loaded at run time.
 */
#include <stdio.h>
#include <stdlib.h>

#include "digits.h"

enum { PIXELS = 64, CLASSES = 10 };

/* The whole file as floats from 0 to 1; NULL if it can't be read. The caller frees it. */
static float *read_images(const char *path, int64_t *count) {
    FILE *file = fopen(path, "rb");
    float *images = NULL;
    long bytes, i;
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    bytes = ftell(file);
    rewind(file);
    *count = bytes / PIXELS;
    if (*count > 0) images = malloc((size_t)*count * PIXELS * sizeof *images);
    for (i = 0; images && i < *count * PIXELS; i++) images[i] = (float)fgetc(file) / 16.0f;
    fclose(file);
    return images;
}

static int best_of(const float *scores) {
    int best = 0, i;
    for (i = 1; i < CLASSES; i++)
        if (scores[i] > scores[best]) best = i;
    return best;
}

/* Classifies all images at once into scores[count][10]. Returns 0, or 1 after saying what went wrong. */
static int classify(const float *images, float *scores, int64_t count) {
    const int64_t in_shape[] = {count, 8, 8, 1}, out_shape[] = {count, CLASSES};
    const convc_tensor input = convc_tensor_of(images, CONVC_FLOAT, 32, 4, in_shape);
    const convc_tensor output = convc_tensor_of(scores, CONVC_FLOAT, 32, 2, out_shape);
    convc_context *context = NULL;
    int32_t status = convc_context_create(&digits_model, NULL, &context);
    if (!status) status = convc_run(context, DIGITS_PREDICT, &input, 1, &output, 1);
    if (status) fprintf(stderr, "%s\n", convc_context_message(context));
    convc_context_destroy(context);
    return status != CONVC_OK;
}

int main(int argc, char **argv) {
    int64_t count = 0, i;
    float *images, *scores;
    int failed;
    if (argc != 2) {
        fprintf(stderr, "usage: %s IMAGES\n", argv[0]);
        return 2;
    }
    images = read_images(argv[1], &count);
    if (!images) {
        fprintf(stderr, "%s: no images of %d bytes\n", argv[1], PIXELS);
        return 1;
    }
    scores = malloc((size_t)count * CLASSES * sizeof *scores);
    failed = !scores || classify(images, scores, count);
    for (i = 0; !failed && i < count; i++) printf("%d\n", best_of(scores + i * CLASSES));
    free(scores);
    free(images);
    return failed;
}
