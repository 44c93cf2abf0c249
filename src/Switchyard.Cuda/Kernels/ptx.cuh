// What kernels need of CUDA C++ and of PTX, without CUDA's headers: qualifiers, and instructions under names that tell their meaning.
#pragma once

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using i32 = int;
using u64 = unsigned long long;
using i64 = long long;

#define DEVICE __attribute__((device)) inline __attribute__((always_inline))
// Behind a lambda's parameters: as DEVICE is, or what it refers to would have to lie in memory.
#define INLINED __attribute__((always_inline))
// For what is rare: kept out of the way, and once.
#define DEVICE_RARELY __attribute__((device)) __attribute__((noinline)) inline
// Before a loop that is run once in a call and seldom turns: copies of its body would only have to be fetched.
#define ROLLED _Pragma("clang loop unroll(disable)")
#define SHARED __attribute__((shared))
// As many bytes as the launch says.
#define DYNAMIC_SHARED(name) extern __attribute__((shared)) __attribute__((aligned(128))) u8 name[]
// An entry point that runs with at most this many threads a block. Its one parameter is the Args struct of the C# file beside it.
#define KERNEL(threads) extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, 1))) void

struct alignas(16) uint4 { u32 x, y, z, w; };

constexpr u32 WARP = 32;
constexpr u32 ALL_LANES = 0xffffffff;

// ---- where a thread is

DEVICE u32 thread_index() { return __nvvm_read_ptx_sreg_tid_x(); }
DEVICE u32 block_index() { return __nvvm_read_ptx_sreg_ctaid_x(); }
DEVICE u32 block_threads() { return __nvvm_read_ptx_sreg_ntid_x(); }
DEVICE u32 block_count() { return __nvvm_read_ptx_sreg_nctaid_x(); }
DEVICE u32 lane_index() { return thread_index() % WARP; }
DEVICE u32 warp_index() { return thread_index() / WARP; }

// Cycles of the multiprocessor; quick to read, and wraps.
DEVICE u32 cycles() { u32 t; asm volatile("mov.u32 %0, %%clock;" : "=r"(t)); return t; }
// Nanoseconds of a clock that all kernels of a device share; it ticks in steps of up to a microsecond and takes
// about as long to read.
DEVICE u64 globaltimer() { u64 t; asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)); return t; }

// The compiler takes a word for another one from here on, and so does not copy what it comes from as a whole.
DEVICE void keep_in_register(u64& word) { asm volatile("" : "+l"(word)); }

// ---- threads of a block, of a warp, of a grid and the next

DEVICE void sync_block() { asm volatile("bar.sync 0;" ::: "memory"); }
DEVICE void sync_warp() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }
// A bit for each lane where it is true.
DEVICE u32 ballot(bool mine) { return __nvvm_vote_ballot_sync(ALL_LANES, mine); }
// The lanes with the same value.
DEVICE u32 match_any(u32 value) { u32 lanes; asm volatile("match.any.sync.b32 %0, %1, 0xffffffff;" : "=r"(lanes) : "r"(value)); return lanes; }
DEVICE u32 lower_lanes() { u32 lanes; asm("mov.u32 %0, %%lanemask_lt;" : "=r"(lanes)); return lanes; }
DEVICE u32 from_lane(u32 value, u32 lane) { return (u32)__nvvm_shfl_sync_idx_i32(ALL_LANES, (i32)value, (i32)lane, 31); }
DEVICE u64 from_lane(u64 value, u32 lane) { return (u64)from_lane((u32)(value >> 32), lane) << 32 | from_lane((u32)value, lane); }
DEVICE float from_lane(float value, u32 lane) { return __builtin_bit_cast(float, from_lane(__builtin_bit_cast(u32, value), lane)); }
// What a lane below has; undefined in the lowest ones.
DEVICE u32 from_lower_lane(u32 value, u32 distance) { return (u32)__nvvm_shfl_sync_up_i32(ALL_LANES, (i32)value, (i32)distance, 0); }
DEVICE u32 from_partner_lane(u32 value, u32 mask) { return (u32)__nvvm_shfl_sync_bfly_i32(ALL_LANES, (i32)value, (i32)mask, 31); }
// True in all threads where it is in one.
DEVICE bool any_of_block(bool mine) {
    u32 any;
    asm volatile("{\n .reg .pred p, q;\n setp.ne.u32 p, %1, 0;\n bar.red.or.pred q, 0, p;\n selp.u32 %0, 1, 0, q;\n}" : "=r"(any) : "r"((u32)mine) : "memory");
    return any != 0;
}
// Until here a kernel that was launched to overlap with the one before it may read only what that one does not write, and publish nothing.
DEVICE void griddepcontrol_wait() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
// From here the next kernel may start, if it was launched to overlap.
DEVICE void griddepcontrol_launch_dependents() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// ---- memory that other devices and the host see (sys), or other blocks of this device (gpu)

DEVICE void st_release_sys(u64* p, u64 v) { asm volatile("st.release.sys.global.u64 [%0], %1;" :: "l"(p), "l"(v) : "memory"); }
DEVICE u64 ld_acquire_sys(const u64* p) { u64 v; asm volatile("ld.acquire.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory"); return v; }
DEVICE void st_relaxed_sys(u64* p, u64 v) { asm volatile("st.relaxed.sys.global.u64 [%0], %1;" :: "l"(p), "l"(v) : "memory"); }
DEVICE u64 ld_relaxed_sys(const u64* p) { u64 v; asm volatile("ld.relaxed.sys.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory"); return v; }
DEVICE void st_release_sys(u32* p, u32 v) { asm volatile("st.release.sys.global.u32 [%0], %1;" :: "l"(p), "r"(v) : "memory"); }
DEVICE u32 ld_acquire_sys(const u32* p) { u32 v; asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory"); return v; }
DEVICE void st_relaxed_sys(u32* p, u32 v) { asm volatile("st.relaxed.sys.global.u32 [%0], %1;" :: "l"(p), "r"(v) : "memory"); }
DEVICE u32 ld_relaxed_sys(const u32* p) { u32 v; asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory"); return v; }
DEVICE void fence_sys() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }
DEVICE u32 compare_and_swap_sys(u32* p, u32 expected, u32 v) {
    u32 old;
    asm volatile("atom.acq_rel.sys.global.cas.b32 %0, [%1], %2, %3;" : "=r"(old) : "l"(p), "r"(expected), "r"(v) : "memory");
    return old;
}
DEVICE void st_relaxed_gpu(u64* p, u64 v) { asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" :: "l"(p), "l"(v) : "memory"); }
DEVICE u64 ld_relaxed_gpu(const u64* p) { u64 v; asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory"); return v; }
// Returns what was there before; counts from 0 to most, and then from 0 again.
DEVICE u32 count_acq_rel_gpu(u32* p, u32 most) { u32 old; asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(most) : "memory"); return old; }
// Returns what was there before.
DEVICE u32 add_relaxed_gpu(u32* p, u32 v) { u32 old; asm volatile("atom.relaxed.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory"); return old; }
DEVICE void add_release_gpu(u32* p, u32 v) { asm volatile("red.release.gpu.global.add.u32 [%0], %1;" :: "l"(p), "r"(v) : "memory"); }
DEVICE u32 ld_acquire_gpu(const u32* p) { u32 v; asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory"); return v; }
DEVICE void st_relaxed_gpu(u32* p, u32 v) { asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" :: "l"(p), "r"(v) : "memory"); }
DEVICE u64 compare_and_swap_gpu(u64* p, u64 expected, u64 v) {
    u64 old;
    asm volatile("atom.acq_rel.gpu.global.cas.b64 %0, [%1], %2, %3;" : "=l"(old) : "l"(p), "l"(expected), "l"(v) : "memory");
    return old;
}

// ---- plain memory, 16 bytes at a time; and what is read once, or was written by others, past the first cache

DEVICE void st_16(void* p, uint4 v) { asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" :: "l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory"); }

DEVICE u64 ld_others(const u64* p) { return ld_relaxed_gpu(p); }
DEVICE i32 ld_others(const i32* p) { i32 v; asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(v) : "l"(p) : "memory"); return v; }

// ---- arithmetic that the compiler must not contract, each rounded by itself

DEVICE float add(float a, float b) { float r; asm("add.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
DEVICE float divide(float a, float b) { float r; asm("div.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }
// Two numbers as Float8E4M3, the first in the lower byte: to nearest even, what is larger becomes the largest.
DEVICE u32 to_e4m3(float first, float second) {
    u32 r;
    asm("{\n .reg .b16 codes;\n cvt.rn.satfinite.e4m3x2.f32 codes, %1, %2;\n cvt.u32.u16 %0, codes;\n}" : "=r"(r) : "f"(second), "f"(first));
    return r;
}
// To nearest even, the first in the lower half; and from the lower half to the bits of a float.
DEVICE u32 to_bfloat16(float first, float second) { u32 r; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first)); return r; }
DEVICE u32 to_half(float first, float second) { u32 r; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(second), "f"(first)); return r; }
DEVICE u32 from_half(u32 bits) { u32 r; asm("{\n .reg .b16 h;\n cvt.u16.u32 h, %1;\n cvt.f32.f16 %0, h;\n}" : "=r"(r) : "r"(bits)); return r; }
DEVICE u32 max_u16x2(u32 a, u32 b) { u32 r; asm("max.u16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b)); return r; }
DEVICE float multiply(float a, float b) { float r; asm("mul.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b)); return r; }

// ---- shared memory in the threads' view

DEVICE void add_shared(u32 address, u32 v) { asm volatile("red.shared.add.u32 [%0], %1;" :: "r"(address), "r"(v) : "memory"); }
DEVICE void min_shared(u32 address, u32 v) { asm volatile("red.shared.min.u32 [%0], %1;" :: "r"(address), "r"(v) : "memory"); }
DEVICE void st_shared(u32 address, u32 v) { asm volatile("st.shared.u32 [%0], %1;" :: "r"(address), "r"(v) : "memory"); }
DEVICE void st_shared_8(u32 address, u32 low, u32 high) { asm volatile("st.shared.v2.u32 [%0], {%1, %2};" :: "r"(address), "r"(low), "r"(high) : "memory"); }
DEVICE u32 ld_shared(u32 address) { u32 v; asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(address) : "memory"); return v; }
DEVICE uint4 ld_shared_16(u32 address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address));
    return v;
}

// ---- shared memory as the copy engine addresses it

DEVICE u32 shared_address(const void* p) { u64 a; asm("cvta.to.shared.u64 %0, %1;" : "=l"(a) : "l"(p)); return (u32)a; }

// ---- mbarriers: words in shared memory on which threads await bytes that bulk loads bring

// After all are made: mbarrier_init_fence, then a barrier of the threads that use them.
DEVICE void mbarrier_init(u32 barrier, u32 arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory"); }
DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void mbarrier_arrive_expect(u32 barrier, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory"); }
DEVICE void mbarrier_wait(u32 barrier, u32 parity) {
    asm volatile("{\n .reg .pred done;\n again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n @!done bra again;\n}" :: "r"(barrier), "r"(parity) : "memory");
}

// ---- bulk copies: addresses and sizes are multiples of 16 bytes

DEVICE void bulk_load(u32 shared, const void* global, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" :: "r"(shared), "l"(global), "r"(bytes), "r"(barrier) : "memory");
}
// Stores belong to the thread's open group until it commits that; groups end in order.
DEVICE void bulk_store(void* global, u32 shared, u32 bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" :: "l"(global), "r"(shared), "r"(bytes) : "memory");
}
DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until all but the latest groups have read their shared memory, which may then be written again.
template <int Latest> DEVICE void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(Latest) : "memory"); }
// Until all but the latest groups are written: a release after it publishes them.
template <int Latest> DEVICE void bulk_wait() { asm volatile("cp.async.bulk.wait_group %0;" :: "n"(Latest) : "memory"); }
// Between ordinary accesses to shared memory and bulk copies of it, or the other way round.
DEVICE void fence_proxy_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// Between acquiring a flag and bulk loads of what it guards.
DEVICE void fence_proxy_async_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }
