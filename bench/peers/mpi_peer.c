// Expert-parallel dispatch and combine as a user writes them with MPI today: pack, MPI_Alltoallv, and back, then reduce.
// One row a token and destination rank (rank-major), bf16, each token choosing topk different experts at random.
//
// usage: mpirun -n R ./mpi_peer tokens hidden topk experts repetitions warmup result-file
// A phase's time is that of its slowest rank, from a barrier; rank 0 writes the percentiles (nearest rank) as JSON.
#include <mpi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float to_float(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double percentile_us(const double *sorted, int n, int percent) { return sorted[(n * percent + 99) / 100 - 1] * 1e6; }

int main(int argc, char **argv) {
    MPI_Init(&argc, &argv);
    int rank, R;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &R);
    if (argc != 8) {
        if (!rank) fprintf(stderr, "usage: mpi_peer tokens hidden topk experts repetitions warmup result-file\n");
        MPI_Abort(MPI_COMM_WORLD, 2);
    }
    int T = atoi(argv[1]), H = atoi(argv[2]), K = atoi(argv[3]), E = atoi(argv[4]), N = atoi(argv[5]), warmup = atoi(argv[6]);
    size_t row = (size_t)H * 2;

    uint16_t *x = aligned_alloc(64, T * row);
    int *idx = malloc(sizeof(int) * T * K);
    srand(1234 + rank);
    for (int t = 0; t < T; t++) {
        for (int h = 0; h < H; h++) x[(size_t)t * H + h] = to_bf16((float)((t * 7 + rank * 131 + h) % 97) * 0.01f);
        for (int k = 0; k < K; k++) {
        again:
            idx[t * K + k] = rand() % E;
            for (int j = 0; j < k; j++)
                if (idx[t * K + j] == idx[t * K + k]) goto again;
        }
    }

    int *sc = calloc(R, 4), *rc = calloc(R, 4), *sd = calloc(R, 4), *rd = calloc(R, 4), *slot = malloc(sizeof(int) * T * R);
    size_t cap = (size_t)T * R;
    uint16_t *sb = aligned_alloc(64, cap * row), *rb = aligned_alloc(64, cap * row), *out = aligned_alloc(64, T * row);
    MPI_Datatype rt;
    MPI_Type_contiguous((int)row, MPI_BYTE, &rt);
    MPI_Type_commit(&rt);
    double *td = malloc(8 * N), *tc = malloc(8 * N);
    int received = 0;

    for (int it = -warmup; it < N; it++) {
        MPI_Barrier(MPI_COMM_WORLD);
        double t0 = MPI_Wtime();
        memset(sc, 0, 4 * R);
        for (int t = 0; t < T; t++) {
            for (int q = 0; q < R; q++) slot[t * R + q] = -1;
            for (int k = 0; k < K; k++) {
                int d = idx[t * K + k] / (E / R);
                if (slot[t * R + d] < 0) slot[t * R + d] = sc[d]++;
            }
        }
        MPI_Alltoall(sc, 1, MPI_INT, rc, 1, MPI_INT, MPI_COMM_WORLD);
        int s = 0, r = 0;
        for (int q = 0; q < R; q++) {
            sd[q] = s;
            s += sc[q];
            rd[q] = r;
            r += rc[q];
        }
        received = r;
        for (int t = 0; t < T; t++)
            for (int q = 0; q < R; q++)
                if (slot[t * R + q] >= 0) memcpy(sb + (size_t)(sd[q] + slot[t * R + q]) * H, x + (size_t)t * H, row);
        MPI_Alltoallv(sb, sc, sd, rt, rb, rc, rd, rt, MPI_COMM_WORLD);
        double t1 = MPI_Wtime();

        MPI_Barrier(MPI_COMM_WORLD);
        double t2 = MPI_Wtime();
        MPI_Alltoallv(rb, rc, rd, rt, sb, sc, sd, rt, MPI_COMM_WORLD);
        for (int t = 0; t < T; t++) {
            uint16_t *o = out + (size_t)t * H;
            const uint16_t *src[64];
            int n = 0;
            for (int q = 0; q < R; q++)
                if (slot[t * R + q] >= 0) src[n++] = sb + (size_t)(sd[q] + slot[t * R + q]) * H;
            for (int h = 0; h < H; h++) {
                float a = 0;
                for (int i = 0; i < n; i++) a += to_float(src[i][h]);
                o[h] = to_bf16(a);
            }
        }
        double t3 = MPI_Wtime(), mine[2] = {t1 - t0, t3 - t2}, slowest[2];
        MPI_Allreduce(mine, slowest, 2, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
        if (it < 0) continue;
        td[it] = slowest[0];
        tc[it] = slowest[1];
    }

    long rows, mine = received;
    MPI_Allreduce(&mine, &rows, 1, MPI_LONG, MPI_SUM, MPI_COMM_WORLD);
    if (!rank) {
        qsort(td, N, 8, compare);
        qsort(tc, N, 8, compare);
        FILE *result = fopen(argv[7], "w");
        if (!result) {
            perror(argv[7]);
            MPI_Abort(MPI_COMM_WORLD, 1);
        }
        fprintf(result, "{\"rows\":%ld,\"dispatchUs\":{\"p50\":%.2f,\"p99\":%.2f},\"combineUs\":{\"p50\":%.2f,\"p99\":%.2f}}\n", rows,
                percentile_us(td, N, 50), percentile_us(td, N, 99), percentile_us(tc, N, 50), percentile_us(tc, N, 99));
        fclose(result);
    }
    MPI_Finalize();
    return 0;
}
