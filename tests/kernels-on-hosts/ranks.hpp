// What the tests of kernels share: random numbers, elements, ranks with arenas whose peers are in the same memory, and checks. After the kernel's own source.
#pragma once
#include <algorithm>
#include <cstdarg>
#include <random>
#include <thread>

struct Random {
    std::mt19937 generator;
    u32 below(u32 end) { return (u32)(generator() % end); }
    bool one_in(u32 n) { return below(n) == 0; }
    u32 one_of(std::initializer_list<u32> values) { return values.begin()[below((u32)values.size())]; }
    float small() { return (float)((i32)below(2001) - 1000) / 64; }
};

// Memory as a device gives it: on a multiple of 256.
struct Memory {
    u8* bytes;
    explicit Memory(size_t count, u8 fill = 0) : bytes((u8*)aligned_alloc(256, (count + 256) / 256 * 256)) { memset(bytes, fill, count); }
    Memory(Memory&& other) noexcept : bytes(other.bytes) { other.bytes = nullptr; }
    ~Memory() { free(bytes); }
    template <class T> T* as() { return (T*)bytes; }
};

inline u32 wrong = 0;
__attribute__((format(printf, 2, 3))) inline void expect(bool holds, const char* what, ...) {
    if (holds || wrong++ >= 10) return;
    va_list values;
    va_start(values, what);
    vprintf(what, values);
    va_end(values);
    puts("");
}

// Elements of rows.
enum Format : u32 { BFLOAT16, HALF, SINGLE };

inline u32 size_of(Format format) { return format == SINGLE ? 4 : 2; }
inline float value_at(Format format, const u8* row, u32 i) {
    if (format == SINGLE) return ((const float*)row)[i];
    u16 bits = ((const u16*)row)[i];
    return format == HALF ? (float)__builtin_bit_cast(_Float16, bits) : __builtin_bit_cast(float, (u32)bits << 16);
}
inline void put(Format format, u8* row, u32 i, float value) {
    if (format == SINGLE) ((float*)row)[i] = value;
    else ((u16*)row)[i] = (u16)(format == HALF ? to_half(value, 0) : to_bfloat16(value, 0));
}

inline i64 up_to(i64 value, i64 multiple) { return (value + multiple - 1) / multiple * multiple; }

// Ranks that see each other's arenas, which are laid out as the kernels are told.
struct Ranks {
    u32 count, experts, top_k;
    i64 pool_at, pool_bytes;
    std::vector<Memory> arenas, states, controls;
    std::vector<Exchange> exchanges;

    Ranks(u32 ranks, u32 all_experts, u32 choices, i64 bytes_of_pool) : count(ranks), experts(all_experts), top_k(choices), pool_bytes(bytes_of_pool), exchanges(ranks) {
        Exchange x = {};
        i64 lines = (i64)ranks * LINE;
        x.abort_at = 0;
        x.faults_at = LINE;
        x.arrivals_at = x.faults_at + (i64)(ranks + 1) * (i64)sizeof(FaultRecord);
        x.done_at = x.arrivals_at + lines;
        x.closed_at = x.done_at + lines;
        x.ring_at = x.closed_at + lines;
        x.rank_counts_at = sizeof(Announcement);
        x.expert_counts_at = x.rank_counts_at + 4 * ranks;
        x.entry_bytes = (u32)up_to(x.expert_counts_at + 4 * experts, LINE);
        x.pool_at = pool_at = up_to(x.ring_at + (i64)ranks * RING_DEPTH * x.entry_bytes, 4096);
        x.total_bytes = pool_at + pool_bytes;
        x.ranks = ranks;
        x.experts = experts;
        x.top_k = top_k;
        for (u32 rank = 0; rank < ranks; rank++) {
            arenas.emplace_back((size_t)x.total_bytes);
            states.emplace_back(sizeof(State));
            controls.emplace_back(sizeof(Control));
            x.arenas[rank] = arenas[rank].bytes;
        }
        for (u32 rank = 0; rank < ranks; rank++) {
            x.rank = rank;
            x.state = states[rank].as<State>();
            x.control = controls[rank].as<Control>();
            x.control->deadline_ns = 10'000'000'000;
            x.self = &exchanges[rank];
            exchanges[rank] = x;
        }
    }

    u8* pool(u32 rank) { return arenas[rank].bytes + pool_at; }

    // A call of all ranks, each in some blocks.
    template <class Args> void run(void (*kernel)(const Args), const std::vector<Args>& args, u32 blocks, u32 threads) {
        std::vector<std::thread> running;
        for (u32 rank = 0; rank < count; rank++)
            for (u32 index = 0; index < blocks; index++) running.emplace_back([=, &args] { run_block(kernel, args[rank], index, blocks, threads); });
        for (std::thread& each : running) each.join();
    }

    void expect_done(u64 epoch) {
        for (const Exchange& x : exchanges) expect(x.state->epoch == epoch && !x.state->broken, "rank %u has done %llu calls, not %llu", x.rank, x.state->epoch, epoch);
    }
};

// The number of exchanges that a test makes, and the first of its seeds: its two arguments.
template <class Test> int run_tests(int arguments, char** values, Test test) {
    u32 exchanges = arguments > 1 ? (u32)atoi(values[1]) : 20, seed = arguments > 2 ? (u32)atoi(values[2]) : std::random_device()();
    u32 passed = 0;
    for (u32 i = 0; i < exchanges; i++, seed++) {
        wrong = 0;
        Random random { std::mt19937(seed) };
        test(random);
        if (wrong == 0) passed++;
        else printf("failed: seed %u\n", seed);
    }
    printf("total: %u passed, %u failed, 0 skipped\n", passed, exchanges - passed);
    return passed == exchanges ? 0 : 1;
}
