using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Switchyard;
using Switchyard.Cpu;

namespace MoeTraining;

/// <summary>One rank's training loop.</summary>
internal sealed class Trainer : IDisposable
{
    private const int StepsPerReport = 10;

    private readonly ModelShape _shape;
    private readonly ExpertGroup _group;
    private readonly ExpertBuffer _buffer;
    private readonly LanguageModel _model;
    private readonly StepClock _clock;
    private readonly Batch _batch;
    private readonly Adam _denseOptimizer;
    private readonly Adam[] _expertOptimizers;
    private readonly float[] _gradient;

    private Trainer(ModelShape shape, ExpertBuffer buffer, byte[] corpus)
    {
        _shape = shape;
        _group = buffer.Group;
        _buffer = buffer;
        _clock = new StepClock();
        _model = new LanguageModel(shape, buffer, _clock, Math.Max(1, Environment.ProcessorCount / _group.Size));
        _batch = new Batch(shape, corpus);
        _denseOptimizer = new Adam(_model.Parameters);
        _expertOptimizers = [.. _model.MoeLayers.Select(layer => new Adam(layer.Experts.Parameters))];
        _gradient = new float[_model.Layout.GradientLength];
    }

    public static async Task<Trainer> CreateAsync(ModelShape shape, ExpertGroup group, byte[] corpus, CancellationToken ct)
    {
        ExpertBuffer buffer = await ExpertBuffer.CreateAsync(group, BufferOptions(shape, group.Size), ct);
        return new Trainer(shape, buffer, corpus);
    }

    public static ExpertBufferOptions BufferOptions(ModelShape shape, int ranks)
    {
        // The worst case is that every token of every rank chooses experts of this one. Alive at once are each block's rows and
        // results, and one block's gradients.
        int mostRows = shape.TokensPerStep * shape.TopK;
        long rowBytes = shape.Hidden * sizeof(float) + 64;
        return new ExpertBufferOptions
        {
            Backend = CpuBackend.Instance,
            Experts = shape.Experts,
            TopK = shape.TopK,
            Hidden = shape.Hidden,
            MaxTokensPerRank = shape.TokensPerStep / ranks,
            Element = ElementType.Single,
            ReceiveCapacity = mostRows,
            MemoryBudget = 2 * (shape.Blocks + 2) * mostRows * rowBytes,
        };
    }

    /// <summary>Trains, and reports every few steps: the same on all ranks.</summary>
    public async Task TrainAsync(int steps, Action<Progress> report, CancellationToken ct)
    {
        List<float> losses = [];
        float balance = 0;
        int[][] load = NoLoad();
        long start = Stopwatch.GetTimestamp();
        for (int step = 1; step <= steps; step++)
        {
            ct.ThrowIfCancellationRequested();
            await StepAsync(step, LearningRate(step, steps), ct);
            losses.Add(_model.Layout.Loss(_gradient));
            balance += _model.Layout.Balance(_gradient);
            AddLoad(load);
            if (step % StepsPerReport != 0 && step != steps) continue;

            double[] totals = _clock.Take();
            await _group.AllReduceSumAsync<double>(totals, ct);
            (double[] seconds, long moved, long crossed) = StepClock.Split(totals);
            TensorPrimitives.Divide(seconds, _group.Size, seconds);
            report(new Progress(
                step, [.. losses], balance / losses.Count, load, seconds, (long)losses.Count * _shape.TokensPerStep,
                Stopwatch.GetElapsedTime(start).TotalSeconds, moved, crossed));
            losses.Clear();
            balance = 0;
            load = NoLoad();
            start = Stopwatch.GetTimestamp();
        }
    }

    public void Dispose() => _buffer.Dispose();

    private async Task StepAsync(int step, float rate, CancellationToken ct)
    {
        _batch.Draw(step);
        _model.ForwardBackward(_batch);
        using (_clock.Measure(StepPhase.GradientSum)) await SumGradientsAsync(ct);
        using (_clock.Measure(StepPhase.Optimizer))
        {
            _denseOptimizer.Update(_gradient, rate, step);
            for (int block = 0; block < _shape.Blocks; block++)
                _expertOptimizers[block].Update(_model.MoeLayers[block].Experts.Gradient, rate, step);
        }
    }

    /// <summary>Adds the shards' gradients one after another in the shards' order, on every rank: the ranks stay bit-identical.</summary>
    private async Task SumGradientsAsync(CancellationToken ct)
    {
        float[] mine = [.. _model.Shards.SelectMany(shard => shard.Gradient)];
        byte[][] all = await _group.AllGatherAsync(MemoryMarshal.AsBytes<float>(mine).ToArray(), ct);
        _gradient.AsSpan().Clear();
        foreach (byte[] bytes in all)
        {
            ReadOnlySpan<float> shards = MemoryMarshal.Cast<byte, float>(bytes);
            for (; !shards.IsEmpty; shards = shards[_gradient.Length..]) TensorPrimitives.Add(_gradient, shards[.._gradient.Length], _gradient);
        }
    }

    /// <summary>Rises over the first steps and falls along a cosine to a tenth.</summary>
    private static float LearningRate(int step, int steps)
    {
        const float Peak = 4e-3f;
        const int WarmUp = 20;
        float done = (float)step / steps;
        return Peak * Math.Min(1, step / (float)WarmUp) * (0.55f + 0.45f * MathF.Cos(MathF.PI * done));
    }

    private int[][] NoLoad() => [.. Enumerable.Range(0, _shape.Blocks).Select(_ => new int[_shape.Experts])];

    private void AddLoad(int[][] load)
    {
        for (int block = 0; block < load.Length; block++)
        {
            Span<float> choices = _model.Layout.Load(_gradient, block);
            for (int expert = 0; expert < choices.Length; expert++) load[block][expert] += (int)choices[expert];
        }
    }
}
