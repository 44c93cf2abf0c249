// Random dispatches by the kernel's own source, against what the layouts say must come: every row, source, choice, weight and count.
#include "dispatch.cu"
#include "ranks.hpp"

struct Shape {
    u32 ranks, top_k, experts, blocks, most_tokens, row_bytes;
    bool by_expert, pre_reduced, fixed, wide, gaps;
    i32 alignment;

    explicit Shape(Random& random) {
        ranks = random.one_of({ 1, 2, 3, 5, 8 });
        top_k = random.one_of({ 1, 2, 3, 6, 8, 9, 12, 31, 33, 64 });
        experts = top_k + random.below(60);
        blocks = 1 + random.below(2);
        most_tokens = 1 + random.below(80);
        if (random.one_in(20)) { // as many as there can be
            ranks = MAX_RANKS;
            blocks = 1;
            most_tokens = 5;
        }
        row_bytes = 16 * (1 + random.below(5));
        by_expert = random.one_in(3);
        pre_reduced = by_expert && random.one_in(2);
        fixed = random.one_in(3);
        wide = random.one_in(2);
        gaps = random.one_in(2);
        alignment = by_expert ? 1 + (i32)random.below(4) : 1;
    }

    // Whatever the routing.
    i64 capacity() const { return (i64)ranks * most_tokens * (by_expert ? top_k : 1); }
    i64 aligned_capacity() const { return capacity() + (i64)experts * alignment; }
    i64 pool_bytes() const { return aligned_capacity() * (row_bytes + 16 + 12 * (i64)top_k) + 16 * experts + 4096; }
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

// What a rank brings, and the memory that its kernel works in.
struct Source {
    u32 tokens;
    std::vector<i32> choices;
    std::vector<i64> wide;
    std::vector<float> weights;
    Memory rows, sent, summed;

    Source(Random& random, const Shape& shape)
        : tokens(random.one_in(6) ? 0 : random.below(shape.most_tokens + 1)), weights(tokens * shape.top_k), rows((size_t)tokens * shape.row_bytes + 16),
          sent(tokens * shape.top_k * sizeof(Entry) + 16, 0x77), summed(tokens * shape.top_k * sizeof(Entry) + 16, 0x77) {
        for (u32 i = 0; i < tokens * shape.row_bytes; i++) rows.bytes[i] = (u8)random.below(256);
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
            a.row_bytes = a.piece_bytes = shape.row_bytes;
            a.row_stride = shape.row_bytes;
            a.pieces = 1;
            a.movers = 10;
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
        a.mine.region_offset = pool_at + LINE * random.below(8);
        a.mine.region_rows = shape.aligned_capacity();
        a.rows = source.rows.bytes;
        a.tokens = source.tokens;
        a.indices = shape.wide ? (const void*)source.wide.data() : source.choices.data();
        if (source.tokens == 0) a.indices = a.places; // of nothing, but there
        a.weights = source.weights.data();
        a.sent = source.sent.as<Entry>();
        a.summed = shape.pre_reduced ? source.summed.as<Entry>() : a.sent;
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
    i64 sources_at = up_to(all * shape.row_bytes, LINE), indices_at = up_to(sources_at + 8 * all, LINE), weights_at = up_to(indices_at + 4 * columns * all, LINE);
    for (const Row& row : rows) {
        Source& from = sources[row.source];
        const i32* source = (const i32*)(region + sources_at) + 2 * row.at;
        expect(memcmp(region + row.at * shape.row_bytes, from.rows.bytes + row.token * shape.row_bytes, shape.row_bytes) == 0, "rank %u: row %lld is another", rank, row.at);
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
    if (wrong) printf("ranks %u, top-%u of %u, blocks %u, by expert %d, pre-reduced %d, fixed %d\n", shape.ranks, shape.top_k, shape.experts, shape.blocks, shape.by_expert, shape.pre_reduced, shape.fixed);
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
