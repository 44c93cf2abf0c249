// Random dispatches by the kernel's own source, against what the layouts say must come: every row, scale, source, choice, weight and count.
#include "dispatch.cu"
#include "ranks.hpp"
#include <cmath>

constexpr i64 MOST_BYTES = 64 << 20; // of all pools together, as far as fewer tokens help

struct Shape {
    u32 ranks, top_k, experts, blocks, movers, most_tokens;
    u32 row_bytes, pieces, piece_bytes, row_stride;                    // as rows travel, the stride as they are given
    u32 scales = 0, scale_size = 0, scale_bytes = 0, scale_stride = 0; // of a row, likewise
    u32 scale_unit = 0; // as they are given, everything about them is a multiple of this
    bool by_expert, pre_reduced, fixed, wide, gaps, scales_by_column = false;
    i32 alignment;
    Scaling scaling = AS_THEY_ARE;
    Format format = BFLOAT16; // of rows that are quantized

    explicit Shape(Random& random) {
        ranks = random.one_of({ 1, 2, 3, 5, 8 });
        top_k = random.one_of({ 1, 2, 3, 6, 8, 9, 12, 31, 33, 64 });
        experts = top_k + random.below(60);
        blocks = 1 + random.below(2);
        movers = 1 + random.below(random.one_in(2) ? 3 : 10);
        most_tokens = 1 + random.below(80);
        if (random.one_in(20)) { // as many as there can be
            ranks = MAX_RANKS;
            blocks = 1;
            most_tokens = 5;
        }
        by_expert = random.one_in(3);
        pre_reduced = by_expert && random.one_in(2);
        fixed = random.one_in(3);
        wide = random.one_in(2);
        gaps = random.one_in(2);
        alignment = by_expert ? 1 + (i32)random.below(4) : 1;
        if (random.below(5) < 2) quantize_rows(random);
        else move_rows(random);
        while (ranks * pool_bytes() > MOST_BYTES && most_tokens > 1) most_tokens /= 2;
    }

    void move_rows(Random& random) {
        u32 units = 1 + random.below(12), most_pieces = 1 + random.below(4);
        row_bytes = 16 * units;
        row_stride = row_bytes + 16 * random.below(3);
        cut((units + most_pieces - 1) / most_pieces * 16, 16);
        if (random.one_in(4)) return;
        scale_size = random.one_of({ 1, 2, 4, 8, 16 });
        scale_unit = random.one_in(2) ? 16 : scale_size;
        scales = scale_unit / scale_size * (1 + random.below(40));
        scale_bytes = scales * scale_size;
        scale_stride = scale_bytes + scale_unit * random.below(3);
        scales_by_column = random.one_in(3);
    }

    void quantize_rows(Random& random) {
        format = (Format)random.below(3);
        scaling = (Scaling)(ANY_SCALE + random.below(3));
        row_bytes = 16 * (1 + random.below(96));
        if (random.one_in(4)) row_bytes = (u32)up_to(row_bytes, random.one_of({ 128, 512 }));
        row_stride = row_bytes * size_of(format) + 16 * random.below(3);
        cut(512 * (1 + random.below(3)), 512);
        scale_size = 4;
        scales = (u32)up_to(row_bytes, scaling == PACKED ? 512 : 128) / (scaling == PACKED ? 512 : 128);
        scale_bytes = scales * scale_size;
        scales_by_column = random.one_in(2);
    }

    // As DispatchKernel.cs does it with larger pieces.
    void cut(u32 most, u32 multiple) {
        u32 wanted = (row_bytes + most - 1) / most;
        piece_bytes = (u32)up_to((row_bytes + wanted - 1) / wanted, multiple);
        pieces = (row_bytes + piece_bytes - 1) / piece_bytes;
    }

    // Whatever the routing.
    i64 capacity() const { return (i64)ranks * most_tokens * (by_expert ? top_k : 1); }
    i64 aligned_capacity() const { return capacity() + (i64)experts * alignment; }
    i64 pool_bytes() const { return aligned_capacity() * (row_bytes + scale_bytes + 16 + 12 * (by_expert ? 1 : top_k)) + 16 * (scales + experts) + 4096; }
    bool is_quantized() const { return scaling != AS_THEY_ARE; }
};

// Which rank holds each expert: any of them, maybe none.
struct Placement {
    std::vector<u32> rank_of, local_of, places;
    std::vector<i32> experts_of, first;

    Placement(Random& random, const Shape& shape) {
        std::vector<std::vector<i32>> held(shape.ranks);
        for (u32 expert = 0; expert < shape.experts; expert++) {
            u32 rank = random.below(shape.ranks);
            rank_of.push_back(rank);
            local_of.push_back((u32)held[rank].size());
            places.push_back(rank << 16 | local_of.back());
            held[rank].push_back((i32)expert);
        }
        for (auto& each : held) {
            first.push_back((i32)experts_of.size());
            experts_of.insert(experts_of.end(), each.begin(), each.end());
        }
        first.push_back((i32)experts_of.size());
    }
    u32 held_by(u32 rank) const { return (u32)(first[rank + 1] - first[rank]); }
};

// The code of the nearest number, of two the even one; what is larger becomes 448.
static u8 code_of(float number) {
    static const std::vector<float> numbers = [] {
        std::vector<float> all;
        for (i32 code = 0; code < 0x7f; code++) all.push_back(code < 8 ? ldexpf((float)code, -9) : ldexpf((float)(8 + code % 8), code / 8 - 10));
        return all;
    }();
    float magnitude = fabsf(number);
    u32 sign = std::signbit(number) ? 0x80 : 0;
    if (std::isnan(number)) return (u8)(sign | 0x7f);
    if (magnitude >= 448) return (u8)(sign | 0x7e);
    u32 code = (u32)(std::upper_bound(numbers.begin(), numbers.end(), magnitude) - numbers.begin()) - 1;
    float down = magnitude - numbers[code], up = numbers[code + 1] - magnitude;
    if (up < down || (up == down && code % 2 == 1)) code++;
    return (u8)(sign | code);
}

// As Float8Scaling.cs says.
static void quantize_row(const Shape& shape, const u8* row, u8* codes, u8* scales) {
    for (u32 begin = 0, group = 0; begin < shape.row_bytes; begin += 128, group++) {
        u32 end = std::min(begin + 128, shape.row_bytes);
        float magnitude = 1e-4f;
        for (u32 i = begin; i < end; i++) {
            float value = fabsf(value_at(shape.format, row, i));
            if (std::isfinite(value)) magnitude = std::max(magnitude, value);
        }
        float scale = magnitude / 448, factor = 448 / magnitude;
        i32 exponent = 0;
        if (shape.scaling != ANY_SCALE) {
            if (frexpf(scale, &exponent) == 0.5f) exponent--;
            scale = ldexpf(1, exponent);
            factor = 1 / scale;
        }
        for (u32 i = begin; i < end; i++) codes[i] = code_of(value_at(shape.format, row, i) * factor);
        if (shape.scaling == PACKED) scales[group] = (u8)(127 + exponent);
        else memcpy(scales + 4 * group, &scale, 4);
    }
}

// Groups of any magnitude, and among them what is not normal, or in every other row not finite. With 14 as the greatest the scale is a power of two as it is; with 8 or 13
// some products lie between two codes if each step is rounded by itself, and only then.
static void draw_elements(Random& random, const Shape& shape, u8* row) {
    i32 exponent = 0;
    float most = 0;
    bool is_finite = random.one_in(2);
    for (u32 i = 0; i < shape.row_bytes; i++) {
        if (i % 128 == 0) {
            exponent = (i32)random.one_of({ 0, 116, 123, 140, 140, 151, 264 }) - 140;
            most = (float)random.one_of({ 0, 8, 13, 14, 16, 16 });
        }
        u32 kind = random.below(64);
        float value = ldexpf(std::min(fabsf(random.small()), most), exponent);
        if (kind == 0) value = 0;
        else if (kind == 1 && !is_finite) value = INFINITY;
        else if (kind == 2 && !is_finite) value = __builtin_bit_cast(float, Single::INFINITE + 1 + random.below(MAGNITUDE - Single::INFINITE));
        else if (kind == 3) value = ldexpf((float)(1 + random.below(127)), shape.format == HALF ? -24 : -133);
        put(shape.format, row, i, value);
        if (random.one_in(2)) row[(i + 1) * size_of(shape.format) - 1] |= 0x80;
    }
}

// What a rank brings, what must come of its rows and scales, and the memory that its kernel works in.
struct Source {
    u32 tokens;
    std::vector<i32> choices;
    std::vector<i64> wide;
    std::vector<float> weights;
    Memory rows, all_scales, rows_there, scales_there, sent, summed;
    const u8* scales;

    Source(Random& random, const Shape& shape)
        : tokens(random.one_in(6) ? 0 : random.below(shape.most_tokens + 1)), weights(tokens * shape.top_k), rows((size_t)tokens * shape.row_stride + 16),
          all_scales((size_t)tokens * shape.scale_stride + 64), rows_there((size_t)tokens * shape.row_bytes + 16), scales_there((size_t)tokens * shape.scale_bytes + 16),
          sent(tokens * shape.top_k * sizeof(Entry) + 16, 0x77), summed(tokens * shape.top_k * sizeof(Entry) + 16, 0x77),
          scales(all_scales.bytes + shape.scale_unit * random.below(4)) {
        for (u32 i = 0; i < tokens * shape.row_stride; i++) rows.bytes[i] = (u8)random.below(256);
        for (u32 i = 0; i < tokens * shape.scale_stride + 64; i++) all_scales.bytes[i] = (u8)random.below(256);
        for (u32 token = 0; token < tokens; token++) {
            u8 *row = rows.bytes + token * shape.row_stride, *row_there = rows_there.bytes + token * shape.row_bytes, *scale_there = scales_there.bytes + token * shape.scale_bytes;
            if (shape.is_quantized()) {
                draw_elements(random, shape, row);
                quantize_row(shape, row, row_there, scale_there);
            } else {
                memcpy(row_there, row, shape.row_bytes);
                memcpy(scale_there, scales + token * shape.scale_stride, shape.scale_bytes);
            }
        }
        for (float& weight : weights) weight = random.small();
        std::vector<i32> experts(shape.experts);
        for (u32 token = 0; token < tokens; token++) {
            for (u32 i = 0; i < shape.experts; i++) experts[i] = (i32)i;
            std::shuffle(experts.begin(), experts.end(), random.generator);
            bool none = shape.gaps && random.one_in(4);
            for (u32 i = 0; i < shape.top_k; i++) choices.push_back(none || (shape.gaps && random.one_in(4)) ? -1 : experts[i]);
        }
        wide.assign(choices.begin(), choices.end());
    }
    u64 ranks_of(const Placement& placement, u32 token, u32 top_k) const {
        u64 ranks = 0;
        for (u32 i = 0; i < top_k; i++)
            if (choices[token * top_k + i] >= 0) ranks |= 1ull << placement.rank_of[(u32)choices[token * top_k + i]];
        return ranks;
    }
};

// What all ranks' kernels are told, and the memory that they work in.
struct Calls {
    const Shape& shape;
    i64 pool_at;
    std::vector<DispatchArgs> args;
    std::vector<Memory> counts, loads, plans, groups;

    Calls(const Shape& of, const Placement& placement, const Ranks& ranks) : shape(of), pool_at(ranks.pool_at), args(of.ranks) {
        for (u32 rank = 0; rank < shape.ranks; rank++) {
            DispatchArgs& a = args[rank] = {};
            a.x = ranks.exchanges[rank];
            a.block_counts = counts.emplace_back(shape.blocks * (shape.ranks + shape.experts + 1) * 4).as<i32>();
            a.load = loads.emplace_back(shape.experts * 8).as<u64>();
            a.plan = plans.emplace_back(sizeof(Plan) + 4 * (2 * shape.experts + 2)).as<Plan>();
            a.groups = groups.emplace_back((size_t)shape.capacity() * shape.top_k * 4).as<i32>();
            a.places = placement.places.data();
            a.experts_of = placement.experts_of.data();
            a.first_expert = placement.first.data();
            a.receive_capacity = (i32)shape.capacity();
            a.indices_are_wide = shape.wide;
            a.row_bytes = shape.row_bytes;
            a.row_stride = shape.row_stride;
            a.piece_bytes = shape.piece_bytes;
            a.pieces = shape.pieces;
            a.movers = shape.movers;
            a.scale_bytes = shape.scale_bytes;
            a.scale_size = shape.scale_size;
            a.scale_stride = shape.scale_stride;
            if (shape.is_quantized()) a.given_element = shape.format == BFLOAT16 ? GIVEN_BFLOAT16 : shape.format == HALF ? GIVEN_HALF : GIVEN_SINGLE;
            for (a.lanes_a_token = 1; a.lanes_a_token < shape.top_k && a.lanes_a_token < WARP;) a.lanes_a_token *= 2;
        }
    }

    // A rank's part of the next call.
    void bring(Random& random, u32 rank, Source& source) {
        DispatchArgs& a = args[rank];
        a.mine = {};
        a.mine.epoch = 1;
        a.mine.signature.operation = DISPATCH;
        a.mine.signature.layout = shape.by_expert ? EXPERT_MAJOR : RANK_MAJOR;
        a.mine.signature.traits = (u8)(WEIGHTS | (shape.fixed ? FIXED_SHAPE : 0) | (shape.pre_reduced ? PRE_REDUCE : 0));
        a.mine.signature.alignment = shape.alignment;
        a.mine.signature.row_bytes = (i32)shape.row_bytes;
        a.mine.signature.scale_bytes = (i32)shape.scale_bytes;
        a.mine.signature.scale_layout = shape.scales_by_column;
        a.mine.signature.quantize = shape.scaling;
        a.mine.region_offset = pool_at + LINE * random.below(8);
        a.mine.region_rows = shape.aligned_capacity();
        a.rows = source.rows.bytes;
        a.tokens = source.tokens;
        a.indices = shape.wide ? (const void*)source.wide.data() : source.choices.data();
        if (source.tokens == 0) a.indices = a.places; // of nothing, but there
        a.weights = source.weights.data();
        a.sent = source.sent.as<Entry>();
        a.summed = shape.pre_reduced ? source.summed.as<Entry>() : a.sent;
        if (shape.scale_unit == 0) return;
        // As DispatchKernel.cs does it.
        u32 unit = 1u << __builtin_ctzll((u64)source.scales | shape.scale_stride | shape.scale_bytes | 16);
        a.scales = source.scales;
        a.scale_unit = shape.scales_by_column ? shape.scale_size : unit == 8 ? 4 : unit;
        a.movers_scales = unit == 16 && !shape.scales_by_column ? shape.scale_bytes : 0;
    }
};

struct Row { u32 source, token, choice; i64 at; };

// The rows that a rank must receive, in the order of their places.
static std::vector<Row> rows_of(const Shape& shape, const Placement& placement, const std::vector<Source>& sources, u32 rank, i64& end) {
    std::vector<Row> rows;
    end = 0;
    if (!shape.by_expert) {
        for (u32 source = 0; source < shape.ranks; source++)
            for (u32 token = 0; token < sources[source].tokens; token++)
                if (sources[source].ranks_of(placement, token, shape.top_k) >> rank & 1) rows.push_back({ source, token, 0, end++ });
        return rows;
    }
    for (i32 i = placement.first[rank]; i < placement.first[rank + 1]; i++) {
        for (u32 source = 0; source < shape.ranks; source++)
            for (u32 choice = 0; choice < sources[source].choices.size(); choice++)
                if (sources[source].choices[choice] == placement.experts_of[(u32)i]) rows.push_back({ source, choice / shape.top_k, choice % shape.top_k, end++ });
        end = up_to(end, shape.alignment);
    }
    return rows;
}

static void expect_received(const Shape& shape, const Placement& placement, std::vector<Source>& sources, const DispatchArgs& a) {
    u32 rank = a.x.rank, k = shape.top_k, columns = shape.by_expert ? 1 : k;
    i64 end;
    std::vector<Row> rows = rows_of(shape, placement, sources, rank, end);
    expect(a.plan->rows[rank] == end, "rank %u: %lld rows, not %lld", rank, a.plan->rows[rank], end);
    i64 all = shape.fixed ? a.receive_capacity + (shape.alignment - 1ll) * placement.held_by(rank) : end;
    u8* region = a.x.arenas[rank] + a.mine.region_offset;
    i64 column = shape.scales ? up_to(all, 16 / shape.scale_size) * shape.scale_size : 0, scales_at = up_to(all * shape.row_bytes, LINE);
    i64 sources_at = up_to(scales_at + (shape.scales_by_column ? shape.scales * column : all * shape.scale_bytes), LINE), indices_at = up_to(sources_at + 8 * all, LINE), weights_at = up_to(indices_at + 4 * columns * all, LINE);
    for (const Row& row : rows) {
        Source& from = sources[row.source];
        const i32* source = (const i32*)(region + sources_at) + 2 * row.at;
        const u8 *given = from.rows_there.bytes + row.token * shape.row_bytes, *got = region + row.at * shape.row_bytes, *scales = from.scales_there.bytes + row.token * shape.scale_bytes;
        u32 same = 0;
        while (same < shape.row_bytes && got[same] == given[same]) same++;
        expect(same == shape.row_bytes, "rank %u: row %lld is another from byte %u on: 0x%x, not 0x%x", rank, row.at, same, got[same], given[same]);
        for (u32 i = 0; i < shape.scales; i++) {
            i64 at = scales_at + (shape.scales_by_column ? i * column + row.at * shape.scale_size : row.at * shape.scale_bytes + i * shape.scale_size);
            expect(memcmp(region + at, scales + i * shape.scale_size, shape.scale_size) == 0, "rank %u: scale %u of row %lld is another", rank, i, row.at);
        }
        expect(source[0] == (i32)row.source && source[1] == (i32)row.token, "rank %u: row %lld is of token %d of rank %d, not %u of %u", rank, row.at, source[1], source[0], row.token, row.source);
        for (u32 column = 0; column < columns; column++) {
            u32 choice = row.token * k + (shape.by_expert ? row.choice : column);
            i32 expert = from.choices[choice], index = ((const i32*)(region + indices_at))[row.at * columns + column];
            float weight = ((const float*)(region + weights_at))[row.at * columns + column];
            bool is_here = expert >= 0 && placement.rank_of[(u32)expert] == rank;
            expect(index == (is_here ? (i32)placement.local_of[(u32)expert] : -1), "rank %u: row %lld, column %u: expert %d", rank, row.at, column, index);
            expect(weight == (is_here ? from.weights[choice] : 0), "rank %u: row %lld, column %u: weight %g", rank, row.at, column, weight);
        }
        bool is_known = false;
        for (u32 i = 0; i < k; i++) {
            Entry entry = from.sent.as<Entry>()[row.token * k + i];
            is_known |= entry.rank == (i32)rank && entry.row == row.at && (!shape.by_expert || i == row.choice);
        }
        expect(is_known, "rank %u does not know where its token %u went: row %lld of rank %u", row.source, row.token, row.at, rank);
    }
    for (u32 local = 0; local < placement.held_by(rank); local++) {
        i32 expert = placement.experts_of[(u32)placement.first[rank] + local], chosen = 0;
        for (const Source& source : sources) chosen += (i32)std::count(source.choices.begin(), source.choices.end(), expert);
        expect(tokens_per_expert(a.plan)[local] == chosen, "rank %u: expert %u has %d tokens, not %d", rank, local, tokens_per_expert(a.plan)[local], chosen);
    }
}

// Entries by rank: in the order of the ranks, then none.
static void expect_ordered(const Shape& shape, const Placement& placement, const Source& source, const Entry* entries) {
    for (u32 token = 0; token < source.tokens; token++) {
        u64 left = source.ranks_of(placement, token, shape.top_k);
        for (u32 i = 0; i < shape.top_k; i++, left &= left - 1) {
            i32 rank = entries[token * shape.top_k + i].rank;
            expect(rank == (left ? __builtin_ctzll(left) : -1), "token %u, place %u: rank %d", token, i, rank);
        }
    }
}

static void test_dispatch(Random& random) {
    Shape shape(random);
    Placement placement(random, shape);
    Ranks ranks(shape.ranks, shape.experts, shape.top_k, shape.pool_bytes());
    Calls calls(shape, placement, ranks);
    for (u64 call = 1; call <= 3 && wrong == 0; call++) {
        std::vector<Source> sources;
        for (u32 rank = 0; rank < shape.ranks; rank++) sources.emplace_back(random, shape);
        for (u32 rank = 0; rank < shape.ranks; rank++) {
            calls.bring(random, rank, sources[rank]);
            memset(ranks.pool(rank), 0x77, (size_t)ranks.pool_bytes);
        }
        ranks.run<DispatchArgs>(dispatch, calls.args, shape.blocks, THREADS);
        ranks.expect_done(call);
        for (u32 rank = 0; rank < shape.ranks && wrong == 0; rank++) {
            expect_received(shape, placement, sources, calls.args[rank]);
            if (!shape.by_expert || shape.pre_reduced) expect_ordered(shape, placement, sources[rank], calls.args[rank].summed);
        }
    }
    if (wrong == 0) return;
    printf("ranks %u, top-%u of %u, blocks %u, movers %u, by expert %d, pre-reduced %d, fixed %d\n", shape.ranks, shape.top_k, shape.experts, shape.blocks, shape.movers, shape.by_expert, shape.pre_reduced, shape.fixed);
    printf("row bytes %u, %u pieces of %u, scales %u of %u, by columns %d, scaling %u of format %u\n", shape.row_bytes, shape.pieces, shape.piece_bytes, shape.scales, shape.scale_size, shape.scales_by_column, shape.scaling, shape.format);
}

// A choice that is no expert, or one twice, ends on all ranks with the token that has it. Calls behind are void until the hosts know.
static void test_wrong_choice(Random& random) {
    Shape shape(random);
    Placement placement(random, shape);
    Ranks ranks(shape.ranks, shape.experts, shape.top_k, shape.pool_bytes());
    std::vector<Source> sources, others;
    Calls calls(shape, placement, ranks);
    for (u32 rank = 0; rank < shape.ranks; rank++) {
        sources.emplace_back(random, shape);
        others.emplace_back(random, shape);
    }
    u32 odd = random.below(shape.ranks);
    Source& source = sources[odd];
    if (source.tokens == 0) return;
    u32 token = random.below(source.tokens);
    u32 place = random.below(shape.top_k), other = random.below(shape.top_k);
    i32* choices = source.choices.data() + token * shape.top_k;
    for (u32 i = 0; i < shape.top_k; i++) choices[i] = (i32)i; // there are as many experts
    if (place != other && random.one_in(2)) choices[place] = choices[other];
    else choices[place] = random.one_in(2) ? (i32)shape.experts : -2;
    i64 said = choices[place];
    source.wide.assign(source.choices.begin(), source.choices.end());
    auto dispatch_all = [&](std::vector<Source>& from, u64 acknowledged, u64 done) {
        for (u32 rank = 0; rank < shape.ranks; rank++) {
            calls.bring(random, rank, from[rank]);
            calls.args[rank].acknowledged = acknowledged;
            memset(ranks.pool(rank), 0x77, (size_t)ranks.pool_bytes);
        }
        ranks.run<DispatchArgs>(dispatch, calls.args, shape.blocks, THREADS);
        ranks.expect_done(done);
    };
    dispatch_all(sources, 0, 1);
    for (const Exchange& x : ranks.exchanges) {
        const Control& told = *x.control;
        expect(told.refused == 1 && told.refusal == NO_EXPERT && told.refused_rank == odd && told.refused_needed == token && told.refused_available == said,
            "rank %u was told %llu of call %llu: rank %llu, token %lld, choice %lld, not rank %u, token %u, choice %lld", x.rank, told.refusal, told.refused, told.refused_rank, told.refused_needed, told.refused_available, odd, token, said);
    }
    // Void calls write nothing either while a last combine is still read.
    for (const DispatchArgs& a : calls.args) {
        a.x.state->pulled = 1;
        a.plan->born = 99;
    }
    std::thread readers([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        for (const DispatchArgs& a : calls.args) expect(((volatile Plan*)a.plan)->born == 99, "rank %u: a void call did not wait for those who read", a.x.rank);
        for (const DispatchArgs& a : calls.args)
            for (u32 reader = 0; reader < shape.ranks; reader++) st_release_sys(done_at(a.x, a.x.rank, reader), epoch_word(1));
    });
    dispatch_all(others, 0, 1);
    readers.join();
    for (const DispatchArgs& a : calls.args) {
        expect(a.plan->born == 0 && a.plan->rows[a.x.rank] == 0, "rank %u: a void call has %lld rows", a.x.rank, a.plan->rows[a.x.rank]);
        for (u32 i = 0; i < a.tokens * shape.top_k; i++) expect(a.sent[i].rank == -1, "rank %u: a void call sent choice %u", a.x.rank, i);
    }
    dispatch_all(others, 1, 2);
    for (u32 rank = 0; rank < shape.ranks && wrong == 0; rank++) {
        expect(calls.args[rank].plan->born == 2, "rank %u: a plan is of call %llu", rank, calls.args[rank].plan->born);
        expect_received(shape, placement, others, calls.args[rank]);
    }
}

int main(int arguments, char** values) {
    return run_tests(arguments, values, [](Random& random) {
        if (random.one_in(4)) test_wrong_choice(random);
        else test_dispatch(random);
    });
}
