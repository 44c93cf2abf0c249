// Copies rows by bulk copies through a ring in shared memory: results to where peers read them. What kernels that move rows are measured against.
#include "ptx.cuh"

struct CopyRowsArgs {
    const u8* source;
    u8* target;
    i64 source_stride;
    i64 target_stride;
    i64 pieces;            // of all rows
    const i64* rows_there; // null, or how many of the rows are there, if not all
    u32 row_bytes;
    u32 piece_bytes;       // a row travels in pieces of this size, the last of a row maybe shorter
    u32 pieces_per_row;
    u32 warps;
};

constexpr u32 STAGES = 2;
constexpr u32 RING_OFFSET = 256; // the mbarriers come first: 8 bytes a stage and warp

struct Piece { const u8* from; u8* to; u32 bytes; };

DEVICE Piece piece_at(const CopyRowsArgs& a, i64 index) {
    i64 row = index / a.pieces_per_row;
    u32 offset = (u32)(index % a.pieces_per_row) * a.piece_bytes;
    u32 left = a.row_bytes - offset;
    return { a.source + row * a.source_stride + offset, a.target + row * a.target_stride + offset, left < a.piece_bytes ? left : a.piece_bytes };
}

DEVICE void load(const Piece& piece, u32 shared, u32 barrier) {
    mbarrier_arrive_expect(barrier, piece.bytes);
    bulk_load(shared, piece.from, piece.bytes, barrier);
}

// One lane moves all pieces of its warp: the next is loaded while the last is stored.
DEVICE void move_pieces(const CopyRowsArgs& a, i64 pieces, u32 barriers, u32 ring, i64 first, i64 step) {
    if (first >= pieces) return;
    Piece next = piece_at(a, first);
    load(next, ring, barriers);
    u32 turn = 0;
    for (i64 index = first; index < pieces; index += step, turn++) {
        u32 stage = turn % STAGES, other = (turn + 1) % STAGES;
        Piece piece = next;
        mbarrier_wait(barriers + 8 * stage, turn / STAGES % 2);
        bulk_store(piece.to, ring + stage * a.piece_bytes, piece.bytes);
        bulk_commit();
        if (index + step >= pieces) break;
        next = piece_at(a, index + step);
        bulk_wait_read<1>();
        load(next, ring + other * a.piece_bytes, barriers + 8 * other);
    }
    bulk_wait<0>();
}

KERNEL(512) copy_rows(const CopyRowsArgs a) {
    DYNAMIC_SHARED(shared);
    u32 warp = warp_index();
    u32 barriers = shared_address(shared) + warp * STAGES * 8;
    u32 ring = shared_address(shared) + RING_OFFSET + warp * STAGES * a.piece_bytes;
    griddepcontrol_wait();
    if (lane_index() == 0) {
        for (u32 stage = 0; stage < STAGES; stage++) mbarrier_init(barriers + 8 * stage, 1);
        mbarrier_init_fence();
        i64 pieces = a.pieces, there = a.rows_there ? *a.rows_there * a.pieces_per_row : pieces;
        move_pieces(a, there < pieces ? there : pieces, barriers, ring, (i64)warp * block_count() + block_index(), (i64)a.warps * block_count());
    }
    griddepcontrol_launch_dependents();
}
