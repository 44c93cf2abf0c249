using System.Diagnostics;
using Switchyard.Cli.Bench.Report;
using Switchyard.Cpu;

namespace Switchyard.Cli.Bench.Work;

/// <summary>Calls that the CPU carries out.</summary>
internal sealed class HostStage(Shape shape, StartLine line) : Stage
{
    private readonly CopyMeter _copy = new(CpuBackend.Instance, shape.Ranks, line);

    public override ExpertBackend Backend => CpuBackend.Instance;

    public override string Name => Machine.Processor;

    public override string Driver => Machine.Kernel;

    public override bool Enqueues => false;

    public override DeviceOptions Device => default;

    public override Interval[][] Copies => [[.. _copy.Memcpy], [.. _copy.Stream]];

    public override long CopyBytes => _copy.Bytes;

    public override IRows Place(NativeRows rows) => rows;

    public override Interval Time(Action call)
    {
        line.Wait();
        long start = Stopwatch.GetTimestamp();
        call();
        return new Interval(start, Stopwatch.GetTimestamp());
    }

    public override void SampleCopy() => _copy.Sample();

    public override void Finish()
    {
    }

    public override void Poison(TensorView view) => Work.Poison.Fill(view);

    public override string? CheckReceived(Oracle oracle, in Dispatched received, TensorView results)
    {
        var got = Received.Of(received);
        string? difference = oracle.CheckReceived(got);
        if (difference is null) oracle.ApplyExperts(got, results);
        return difference;
    }

    public override string? CheckCombined(Oracle oracle, TensorView output) => oracle.CheckCombined(output);

    public override void Dispose() => _copy.Dispose();
}
