// Stands in for the kernels' ptx.cuh: the same names, carried out by a host. A thread is a fiber, a block a thread of the host, a kernel of one rank
// some of those; threads of a warp meet where they exchange something, as they do on a device. Copies are done at once and memory is in order, so
// this shows what kernels compute and whether all threads come where they must meet, not what a device may reorder.
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sched.h>
#include <time.h>
#include <vector>
#include <x86intrin.h>

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i32 = int;
using u64 = unsigned long long;
using i64 = long long;

#define DEVICE inline
#define INLINED
#define DEVICE_RARELY inline
#define ROLLED
#define SHARED thread_local
#define DYNAMIC_SHARED(name) static thread_local __attribute__((aligned(128))) u8 name[232448]
#define KERNEL(threads) inline void

struct alignas(16) uint4 { u32 x, y, z, w; };

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffff;
constexpr u32 MOST_THREADS = 512;

// ---- blocks

// Leaves this stack for another, with the registers that a called function keeps.
extern "C" void switch_stacks(void** from, void* to);
asm(R"(
switch_stacks:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");
constexpr u32 KEPT_REGISTERS = 6;

struct Block {
    struct Fiber {
        void* stack;
        const u32* awaited; // or null: goes on when this is no longer
        u32 turn;           // ... this
        bool is_done;
    };
    struct Meeting { u32 came, turn; u64 given[WARP], taken[WARP]; };

    u32 index, count, threads, running;
    Fiber fibers[MOST_THREADS];
    Meeting warps[MOST_THREADS / WARP];
    u32 came, turn;
    bool any, result;
    void* scheduler;
};
inline thread_local Block* the_block;

// Not inlined: a fiber asks again after it was away.
__attribute__((noinline)) inline Block& block() { asm volatile("" ::: "memory"); return *the_block; }
__attribute__((noinline)) inline void let_others_run(const u32* awaited = nullptr, u32 turn = 0) {
    Block& b = block();
    Block::Fiber& fiber = b.fibers[b.running];
    fiber.awaited = awaited;
    fiber.turn = turn;
    switch_stacks(&fiber.stack, b.scheduler);
}

// Runs a block of a kernel on this thread of the host, until all its threads have returned.
template <class Args> void run_block(void (*kernel)(const Args), const Args& args, u32 index, u32 count, u32 threads) {
    constexpr size_t STACK = 96 << 10;
    static thread_local void (*entry)(const Args);
    static thread_local const Args* given;
    void (*first)() = [] {
        entry(*given);
        block().fibers[block().running].is_done = true;
        let_others_run();
    };
    auto memory = std::make_unique<Block>();
    std::unique_ptr<u8[]> stacks(new u8[threads * STACK]); // not touched before it is used
    entry = kernel;
    given = &args;
    the_block = memory.get();
    Block& b = *the_block;
    b.index = index;
    b.count = count;
    b.threads = threads;
    for (u32 i = 0; i < threads; i++) {
        // Above the registers lies where a fiber begins, and above that what a called function takes for where it returns to.
        auto top = (void**)(((uintptr_t)stacks.get() + (i + 1) * STACK) & ~(uintptr_t)15) - 2;
        *top = (void*)first;
        b.fibers[i].stack = top - KEPT_REGISTERS;
    }
    for (u32 left = threads; left > 0; sched_yield()) {
        left = 0;
        for (u32 i = 0; i < threads; i++) {
            Block::Fiber& fiber = b.fibers[i];
            if (fiber.is_done) continue;
            left++;
            if (fiber.awaited && *fiber.awaited == fiber.turn) continue;
            b.running = i;
            switch_stacks(&b.scheduler, fiber.stack);
        }
    }
}

// ---- where a thread is

DEVICE u32 thread_index() { return block().running; }
DEVICE u32 block_index() { return block().index; }
DEVICE u32 block_threads() { return block().threads; }
DEVICE u32 block_count() { return block().count; }
DEVICE u32 lane_index() { return thread_index() % WARP; }
DEVICE u32 warp_index() { return thread_index() / WARP; }
DEVICE u32 cycles() { return (u32)__rdtsc(); }
DEVICE u64 globaltimer() { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec; }
DEVICE void keep_in_register(u64&) {}

// ---- threads of a block, of a warp

DEVICE bool any_of_block(bool mine) {
    Block& b = block();
    u32 turn = b.turn;
    b.any |= mine;
    if (++b.came == b.threads) {
        b.came = 0;
        b.result = b.any;
        b.any = false;
        b.turn++;
    } else let_others_run(&b.turn, turn);
    return b.result;
}
DEVICE void sync_block() { any_of_block(false); }

// What all lanes of the warp gave. It stays until all have come to the next meeting.
DEVICE const u64* meet(u64 mine) {
    Block::Meeting& warp = block().warps[warp_index()];
    u32 turn = warp.turn;
    warp.given[lane_index()] = mine;
    if (++warp.came == WARP) {
        warp.came = 0;
        memcpy(warp.taken, warp.given, sizeof warp.taken);
        warp.turn++;
    } else let_others_run(&warp.turn, turn);
    return warp.taken;
}
DEVICE void sync_warp() { meet(0); }
DEVICE u32 match_any(u32 value) {
    const u64* all = meet(value);
    u32 lanes = 0;
    for (u32 lane = 0; lane < WARP; lane++) lanes |= (u32)(all[lane] == value) << lane;
    return lanes;
}
DEVICE u32 ballot(bool mine) {
    const u64* all = meet(mine);
    u32 lanes = 0;
    for (u32 lane = 0; lane < WARP; lane++) lanes |= (u32)all[lane] << lane;
    return lanes;
}
DEVICE u32 lower_lanes() { return (1u << lane_index()) - 1; }
DEVICE u32 from_lane(u32 value, u32 lane) { return (u32)meet(value)[lane % WARP]; }
DEVICE u64 from_lane(u64 value, u32 lane) { return meet(value)[lane % WARP]; }
DEVICE float from_lane(float value, u32 lane) { return __builtin_bit_cast(float, from_lane(__builtin_bit_cast(u32, value), lane)); }
DEVICE u32 from_lower_lane(u32 value, u32 distance) { u32 lane = lane_index(); return (u32)meet(value)[lane >= distance ? lane - distance : lane]; }
DEVICE u32 from_partner_lane(u32 value, u32 mask) { u32 lane = lane_index(); return (u32)meet(value)[lane ^ mask]; }
DEVICE void griddepcontrol_wait() {}
DEVICE void griddepcontrol_launch_dependents() {}

// ---- memory that others see; who looks for a flag lets others run

template <class T> DEVICE T load(const T* p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
template <class T> DEVICE T look(const T* p) { let_others_run(); return load(p); }
template <class T> DEVICE void store(T* p, T v) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); }
template <class T> DEVICE T compare_and_swap(T* p, T expected, T v) {
    __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    return expected;
}
DEVICE void st_release_sys(u64* p, u64 v) { store(p, v); }
DEVICE u64 ld_acquire_sys(const u64* p) { return look(p); }
DEVICE void st_relaxed_sys(u64* p, u64 v) { store(p, v); }
DEVICE u64 ld_relaxed_sys(const u64* p) { return load(p); }
DEVICE void st_release_sys(u32* p, u32 v) { store(p, v); }
DEVICE u32 ld_acquire_sys(const u32* p) { return look(p); }
DEVICE void st_relaxed_sys(u32* p, u32 v) { store(p, v); }
DEVICE u32 ld_relaxed_sys(const u32* p) { return load(p); }
DEVICE void fence_sys() {}
DEVICE u32 compare_and_swap_sys(u32* p, u32 expected, u32 v) { return compare_and_swap(p, expected, v); }
DEVICE void st_relaxed_gpu(u64* p, u64 v) { store(p, v); }
DEVICE u64 ld_relaxed_gpu(const u64* p) { return load(p); }
DEVICE u32 count_acq_rel_gpu(u32* p, u32 most) {
    u32 old = load(p);
    for (u32 seen; (seen = compare_and_swap(p, old, old >= most ? 0 : old + 1)) != old; old = seen) {}
    return old;
}
DEVICE u32 add_relaxed_gpu(u32* p, u32 v) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
DEVICE void add_release_gpu(u32* p, u32 v) { __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); }
DEVICE u32 ld_acquire_gpu(const u32* p) { return look(p); }
DEVICE void st_relaxed_gpu(u32* p, u32 v) { store(p, v); }
DEVICE u64 compare_and_swap_gpu(u64* p, u64 expected, u64 v) { return compare_and_swap(p, expected, v); }
DEVICE u64 ld_others(const u64* p) { return load(p); }
DEVICE i32 ld_others(const i32* p) { return load(p); }

// ---- plain memory; what a device refuses ends the program

DEVICE void require_aligned(const void* p, u32 bytes) { if ((uintptr_t)p % 16 != 0 || bytes % 16 != 0) { fprintf(stderr, "%p, %u bytes: not aligned\n", p, bytes); abort(); } }
DEVICE void st_16(void* p, uint4 v) { require_aligned(p, 16); memcpy(p, &v, 16); }

// ---- arithmetic

DEVICE float add(float a, float b) { return a + b; }
DEVICE float divide(float a, float b) { return a / b; }
DEVICE float multiply(float a, float b) { return a * b; }
DEVICE u32 max_u16x2(u32 a, u32 b) {
    u32 low = (a & 0xffff) > (b & 0xffff) ? a : b, high = a >> 16 > b >> 16 ? a : b;
    return (low & 0xffff) | (high & 0xffff0000);
}
DEVICE u32 to_bfloat16(float first, float second) {
    auto narrow = [](float f) -> u32 {
        u32 bits = __builtin_bit_cast(u32, f);
        return f != f ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    };
    return narrow(first) | narrow(second) << 16;
}
DEVICE u32 half_bits(float f) { return f != f ? 0x7fff : __builtin_bit_cast(u16, (_Float16)f); }
DEVICE u32 to_half(float first, float second) { return half_bits(first) | half_bits(second) << 16; }
DEVICE u32 from_half(u32 bits) { return __builtin_bit_cast(u32, (float)__builtin_bit_cast(_Float16, (u16)bits)); }
DEVICE u32 to_e4m3(float first, float second) {
    auto narrow = [](float f) -> u32 {
        u32 bits = __builtin_bit_cast(u32, f), sign = bits >> 24 & 0x80;
        float magnitude = __builtin_fabsf(f);
        if (f != f) return 0x7f;
        if (magnitude >= 448) return sign | 0x7e;
        if (magnitude < 1.0f / 64) return sign | (u32)__builtin_rintf(magnitude * 512); // subnormal, or rounded up to the least that is not
        return sign | ((bits & 0x7fffffff) - (120u << 23) + 0x7ffff + (bits >> 20 & 1)) >> 20;
    };
    return narrow(first) | narrow(second) << 8;
}

// ---- shared memory: addresses count from a word of the block's own

inline thread_local u8 shared_origin[16];
DEVICE u32 shared_address(const void* p) { return (u32)((const u8*)p - shared_origin); }
DEVICE u8* shared_at(u32 address) { return shared_origin + (i32)address; }
DEVICE void add_shared(u32 address, u32 v) { *(u32*)shared_at(address) += v; }
DEVICE void min_shared(u32 address, u32 v) { u32& word = *(u32*)shared_at(address); if (v < word) word = v; }
DEVICE void st_shared(u32 address, u32 v) { *(u32*)shared_at(address) = v; }
DEVICE void st_shared_8(u32 address, u32 low, u32 high) { u32* words = (u32*)shared_at(address); words[0] = low; words[1] = high; }
DEVICE u32 ld_shared(u32 address) { return *(u32*)shared_at(address); }
DEVICE uint4 ld_shared_16(u32 address) { uint4 v; memcpy(&v, shared_at(address), 16); return v; }

// ---- bulk copies, done when they are asked for

DEVICE void mbarrier_init(u32, u32) {}
DEVICE void mbarrier_init_fence() {}
DEVICE void mbarrier_arrive_expect(u32, u32) {}
DEVICE void mbarrier_wait(u32, u32) { let_others_run(); }
DEVICE void bulk_load(u32 shared, const void* global, u32 bytes, u32) { require_aligned(global, bytes); memcpy(shared_at(shared), global, bytes); }
DEVICE void bulk_store(void* global, u32 shared, u32 bytes) { require_aligned(global, bytes); memcpy(global, shared_at(shared), bytes); }
DEVICE void bulk_commit() {}
template <int Latest> DEVICE void bulk_wait_read() {}
template <int Latest> DEVICE void bulk_wait() {}
DEVICE void fence_proxy_async_shared() {}
DEVICE void fence_proxy_async_global() {}
