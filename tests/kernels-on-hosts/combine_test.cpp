// Random combines, and sums of groups, by the kernels' own source, against sums in the order that is promised, bit for bit.
#include "combine.cu"
#include "ranks.hpp"

struct Shape {
    u32 ranks, top_k, blocks, most_tokens, row_bytes, biases;
    bool by_expert, weighs, reduces;
    Format format;

    explicit Shape(Random& random) {
        ranks = random.one_of({ 1, 2, 3, 5, 8 });
        top_k = random.one_of({ 1, 2, 4, 6, 8, 9, 12, 33, 64 });
        blocks = 1 + random.below(2);
        most_tokens = 1 + random.below(random.one_in(3) ? 3 : 60);
        row_bytes = 16 * (1 + random.below(random.one_in(3) ? 600 : 20));
        if (random.one_in(20)) {
            ranks = MAX_RANKS;
            blocks = 1;
            most_tokens = 4;
        }
        by_expert = random.one_in(2);
        weighs = by_expert && random.one_in(2);
        reduces = random.one_in(3);
        biases = random.below(4); // a bit each
        format = (Format)random.below(3);
    }
    u32 elements() const { return row_bytes / size_of(format); }
    i64 most_rows() const { return (i64)ranks * most_tokens * top_k; }
};

static Memory random_rows(Random& random, const Shape& shape, u32 rows) {
    Memory memory((size_t)rows * shape.row_bytes + 16);
    for (u32 row = 0; row < rows; row++)
        for (u32 i = 0; i < shape.elements(); i++) put(shape.format, memory.bytes + row * shape.row_bytes, i, random.small());
    return memory;
}

// Adds in order, and compares: in single precision, rounded once; zero where there is nothing.
static void expect_sum(const Shape& shape, const u8* got, const std::vector<Term>& terms, const char* what, u32 rank, u32 number) {
    std::vector<u8> sum(shape.row_bytes);
    for (u32 i = 0; i < shape.elements() && !terms.empty(); i++) {
        float total = -0.0f;
        for (const Term& term : terms) total += value_at(shape.format, term.row, i) * term.weight;
        put(shape.format, sum.data(), i, total);
    }
    expect(memcmp(got, sum.data(), shape.row_bytes) == 0, "rank %u: %s %u of %zu rows is another", rank, what, number, terms.size());
}

static void test_combine(Random& random) {
    Shape shape(random);
    u32 k = shape.top_k;
    i64 rows_bytes = up_to(shape.most_rows() * shape.row_bytes, LINE);
    Ranks ranks(shape.ranks, 1, k, rows_bytes + 4 * shape.most_rows() * k + 4096);
    std::vector<Memory> plans;
    for (u32 rank = 0; rank < shape.ranks; rank++) plans.emplace_back(sizeof(Plan));
    for (u64 call = 1; call <= 2 && wrong == 0; call++) {
        std::vector<Memory> sent, outputs, biases, reduced;
        std::vector<std::vector<float>> weights(shape.ranks);
        std::vector<CombineArgs> args(shape.ranks);
        i64 rows[MAX_RANKS] = {};
        for (u32 rank = 0; rank < shape.ranks; rank++) {
            CombineArgs& a = args[rank] = {};
            a.x = ranks.exchanges[rank];
            a.tokens = random.below(shape.most_tokens + 1);
            a.row_bytes = shape.row_bytes;
            Entry* entries = sent.emplace_back(a.tokens * k * sizeof(Entry) + 8).as<Entry>();
            for (u32 token = 0; token < a.tokens; token++) {
                u32 places = 0;
                for (u32 i = 0; i < k; i++) entries[token * k + i] = { -1, 0 };
                if (shape.by_expert) {
                    for (u32 i = 0; i < k; i++) {
                        u32 to = random.below(shape.ranks);
                        if (!random.one_in(4)) entries[token * k + i] = { (i32)to, (i32)rows[to]++ };
                    }
                } else {
                    for (u32 to = 0; to < shape.ranks && places < k; to++)
                        if (random.one_in(2)) entries[token * k + places++] = { (i32)to, (i32)rows[to]++ };
                }
            }
            a.sent = a.summed = entries;
            a.output = outputs.emplace_back((size_t)a.tokens * shape.row_bytes + 16, 0x77).bytes;
            a.output_stride = shape.row_bytes;
            for (u32 bias = 0; bias < 2; bias++) {
                if ((shape.biases >> bias & 1) == 0) continue;
                a.biases[bias] = biases.emplace_back(random_rows(random, shape, a.tokens)).bytes;
                a.bias_strides[bias] = shape.row_bytes;
            }
            for (u32 i = 0; i < a.tokens * k; i++) weights[rank].push_back(random.small());
            if (shape.weighs) a.choice_weights = weights[rank].data();
            if (shape.reduces) a.reduced_weights = reduced.emplace_back(a.tokens * k * 4 + 4).as<float>();
            a.mine.signature.operation = COMBINE;
            a.mine.signature.layout = shape.by_expert ? EXPERT_MAJOR : RANK_MAJOR;
            a.mine.signature.traits = shape.reduces ? WEIGHTS : 0;
            a.mine.region_offset = ranks.pool_at;
            a.mine.weights_offset = ranks.pool_at + rows_bytes;
        }
        for (u32 rank = 0; rank < shape.ranks; rank++) {
            Plan* plan = plans[rank].as<Plan>();
            plan->born = call;
            std::copy(rows, rows + MAX_RANKS, plan->rows);
            args[rank].plan = plan;
            Memory results = random_rows(random, shape, (u32)rows[rank]);
            memcpy(ranks.pool(rank), results.bytes, (size_t)rows[rank] * shape.row_bytes);
            float* carried = (float*)(ranks.pool(rank) + rows_bytes);
            for (i64 i = 0; i < rows[rank] * (shape.by_expert ? 1 : k); i++) carried[i] = random.small();
        }
        auto kernel = shape.format == SINGLE ? combine_single : shape.format == HALF ? combine_half : combine_bfloat16;
        ranks.run<CombineArgs>(kernel, args, shape.blocks, THREADS);
        ranks.expect_done(call);
        for (u32 rank = 0; rank < shape.ranks; rank++) {
            const CombineArgs& a = args[rank];
            for (u32 token = 0; token < a.tokens; token++) {
                std::vector<Term> terms;
                std::vector<float> carried(k);
                for (u32 i = 0; i < k; i++) {
                    Entry entry = a.sent[token * k + i];
                    if (entry.rank < 0) continue;
                    terms.push_back({ ranks.pool((u32)entry.rank) + entry.row * (i64)shape.row_bytes, shape.weighs ? weights[rank][token * k + i] : 1 });
                    const float* there = (const float*)(ranks.pool((u32)entry.rank) + rows_bytes);
                    if (shape.by_expert) carried[i] = there[entry.row];
                    else for (u32 choice = 0; choice < k; choice++) carried[choice] += there[(u32)entry.row * k + choice];
                }
                for (u32 bias = 0; bias < 2; bias++)
                    if (a.biases[bias]) terms.push_back({ a.biases[bias] + token * shape.row_bytes, 1 });
                expect_sum(shape, a.output + token * shape.row_bytes, terms, "token", rank, token);
                for (u32 i = 0; i < k && shape.reduces; i++) expect(a.reduced_weights[token * k + i] == carried[i], "rank %u, token %u, choice %u: weight %g, not %g", rank, token, i, a.reduced_weights[token * k + i], carried[i]);
            }
        }
    }
    if (wrong) printf("ranks %u, top-%u, blocks %u, row bytes %u, by expert %d, format %u\n", shape.ranks, k, shape.blocks, shape.row_bytes, shape.by_expert, shape.format);
}

static void test_groups(Random& random) {
    Shape shape(random);
    u32 k = shape.top_k, count = random.below(shape.most_tokens + 1), rows = 1 + random.below(40);
    Ranks ranks(1, 1, k, 4096);
    Memory plan(sizeof(Plan)), groups((size_t)count * k * 4 + 4), results = random_rows(random, shape, rows), sums((size_t)count * shape.row_bytes + 16, 0x77);
    plan.as<Plan>()->rows[0] = rows;
    plan.as<Plan>()->tokens[0] = count;
    for (u32 group = 0; group < count; group++) {
        u32 members = random.below(k + 1);
        for (u32 i = 0; i < k; i++) groups.as<i32>()[group * k + i] = i < members ? (i32)random.below(rows) : i == members ? -1 : (i32)random.below(1000);
    }
    SumArgs a = {};
    a.x = ranks.exchanges[0];
    a.results = results.bytes;
    a.result_stride = shape.row_bytes;
    a.sums = sums.bytes;
    a.groups = groups.as<i32>();
    a.plan = plan.as<Plan>();
    a.row_bytes = shape.row_bytes;
    auto kernel = shape.format == SINGLE ? sum_groups_single : shape.format == HALF ? sum_groups_half : sum_groups_bfloat16;
    ranks.run<SumArgs>(kernel, { a }, shape.blocks, THREADS);
    for (u32 group = 0; group < count; group++) {
        std::vector<Term> terms;
        for (u32 i = 0; i < k && groups.as<i32>()[group * k + i] >= 0; i++) terms.push_back({ results.bytes + groups.as<i32>()[group * k + i] * (i64)shape.row_bytes, 1 });
        expect_sum(shape, sums.bytes + group * shape.row_bytes, terms, "group", 0, group);
    }
}

int main(int arguments, char** values) {
    return run_tests(arguments, values, [](Random& random) {
        if (random.one_in(4)) test_groups(random);
        else test_combine(random);
    });
}
