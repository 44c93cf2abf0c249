// Fills rows with a pattern: padding with zeros, or with poison what nobody may read.
#include "ptx.cuh"

struct FillRowsArgs {
    u8* target;
    const i32* first;   // the first row to fill, read when the kernel runs; none: from row 0
    i64 rows;
    i64 stride;
    u32 row_bytes;
    u32 pattern;
};

KERNEL(512) fill_rows(const FillRowsArgs a) {
    griddepcontrol_wait();
    u32 units = a.row_bytes / 16;
    i64 begin = a.first ? *a.first : 0;
    if (begin < 0) begin = 0;
    uint4 value = { a.pattern, a.pattern, a.pattern, a.pattern };
    for (i64 row = begin + block_index(); row < a.rows; row += block_count())
        for (u32 unit = thread_index(); unit < units; unit += block_threads())
            st_16(a.target + row * a.stride + (i64)unit * 16, value);
    griddepcontrol_launch_dependents();
}
