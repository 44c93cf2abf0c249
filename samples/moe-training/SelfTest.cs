using Switchyard;

namespace MoeTraining;

/// <summary>
/// What the demo takes for granted: that the gradients are the loss's derivatives, and that four ranks (threads, here) train the
/// same model as one, bit for bit.
/// </summary>
internal static class SelfTest
{
    public static async Task<bool> RunAsync(CancellationToken ct)
    {
        byte[] corpus = [.. Enumerable.Range(0, 4096).Select(i => (byte)("switchyard"[i % 10] + i / 100 % 7))];
        // With every expert chosen no small change of a parameter can flip a choice, where the loss jumps. With two, only the
        // experts of the only block can be moved without moving the gate's input.
        List<bool> outcomes = await CheckGradientsAsync(new ModelShape { TopK = 16, BalanceWeight = 0 }, corpus, ct);
        outcomes.AddRange(await CheckGradientsAsync(new ModelShape { Blocks = 1, BalanceWeight = 0 }, corpus, ct));
        outcomes.Add(await CompareRanksAsync(corpus, ct));
        int passed = outcomes.Count(isRight => isRight), failed = outcomes.Count - passed;
        Console.WriteLine($"total: {passed} passed, {failed} failed, 0 skipped");
        return failed == 0;
    }

    private static async Task<List<bool>> CheckGradientsAsync(ModelShape shape, byte[] corpus, CancellationToken ct)
    {
        using ExpertGroup group = ExpertGroup.CreateLocal(1)[0];
        using ExpertBuffer buffer = await ExpertBuffer.CreateAsync(group, Trainer.BufferOptions(shape, 1), ct);
        var model = new LanguageModel(shape, buffer, new StepClock(), Environment.ProcessorCount);
        var batch = new Batch(shape, corpus);
        batch.Draw(1);
        model.ForwardBackward(batch);

        float[] dense = new float[model.Layout.Count];
        foreach (Shard shard in model.Shards)
            for (int i = 0; i < dense.Length; i++) dense[i] += shard.Gradient[i];
        Experts experts = model.MoeLayers[0].Experts;
        float[] expert = [.. experts.Gradient];

        List<bool> outcomes = [];
        for (int part = 0; part < 8 && shape.TopK == shape.Experts; part++)
        {
            int length = dense.Length / 8;
            outcomes.Add(CheckDirection(model, batch, shape, $"dense {part}", model.Parameters, dense, part * length, length));
        }
        for (int part = 0; part < 4; part++)
        {
            int length = expert.Length / 4;
            outcomes.Add(CheckDirection(model, batch, shape, $"experts {part}", experts.Parameters, expert, part * length, length));
        }
        return outcomes;
    }

    /// <summary>Moves a stretch of parameters along its gradient and compares the slope of the loss with the gradient's length.</summary>
    private static bool CheckDirection(
        LanguageModel model, Batch batch, ModelShape shape, string name, float[] parameters, float[] gradient, int first, int length)
    {
        float[] before = [.. parameters];
        double norm = Math.Sqrt(gradient.AsSpan(first, length).ToArray().Sum(g => (double)g * g));
        const double Epsilon = 5e-3;
        double At(double distance)
        {
            for (int i = first; i < first + length; i++) parameters[i] = (float)(before[i] + distance * gradient[i] / norm);
            model.ForwardBackward(batch);
            before.CopyTo(parameters, 0);
            return model.Shards.Sum(shard =>
                (double)model.Layout.Loss(shard.Gradient) + shape.BalanceWeight * model.Layout.Balance(shard.Gradient));
        }
        double slope = (At(Epsilon) - At(-Epsilon)) / (2 * Epsilon), error = Math.Abs(slope - norm) / norm;
        Console.WriteLine($"top-{shape.TopK} {name}: gradient {norm:G6}, slope of the loss {slope:G6}, relative difference {error:P2}");
        return error < 0.02;
    }

    private static async Task<bool> CompareRanksAsync(byte[] corpus, CancellationToken ct)
    {
        const int Steps = 20;
        float[] one = (await TrainAsync(1, corpus, Steps, ct))[0];
        float[][] four = await TrainAsync(4, corpus, Steps, ct);
        bool isSame = four.All(losses => losses.AsSpan().SequenceEqual(one));
        Console.WriteLine($"1 rank and 4 ranks, {Steps} steps to a loss of {one[^1]}: {(isSame ? "the same bit for bit" : "different")}");
        return isSame;
    }

    private static async Task<float[][]> TrainAsync(int ranks, byte[] corpus, int steps, CancellationToken ct)
    {
        ExpertGroup[] groups = ExpertGroup.CreateLocal(ranks);
        return await Task.WhenAll(groups.Select(group => Task.Factory.StartNew(() => TrainRank(group, corpus, steps, ct),
            ct, TaskCreationOptions.LongRunning, TaskScheduler.Default)));
    }

    private static float[] TrainRank(ExpertGroup group, byte[] corpus, int steps, CancellationToken ct)
    {
        using (group)
        {
            using Trainer trainer = Trainer.CreateAsync(new ModelShape(), group, corpus, ct).GetAwaiter().GetResult();
            List<float> losses = [];
            trainer.TrainAsync(steps, progress => losses.AddRange(progress.Losses), ct).GetAwaiter().GetResult();
            return [.. losses];
        }
    }
}
