using System.CommandLine;
using Switchyard.Cli.Bench.Gpu;
using Switchyard.Cli.Bench.Peers;
using Switchyard.Cuda.Kernels;

namespace Switchyard.Cli.Bench;

internal static class BenchCommand
{
    private const string Description = """
        Measures dispatch and combine on this machine, and checks what they give.

        Each option whose value is LIST takes several, separated by commas; all combinations are measured. Every time is that of the slowest
        rank, from a common start. 'of copy' compares with the fastest copy of memory that this machine does right before. On GPUs the times are
        those of their clocks, and several devices are measured for what pairs of them copy to each other.
        The exit code is 1 if a result was wrong, that of a rank that failed, 2 if nothing was started.

        Examples:
          switchyard bench
          switchyard bench --ranks 2,4 --processes --tokens 128,1024 --routing uniform,zipf:1.0,one-hot --json results.json
          switchyard bench --ranks 2 --processes --tokens 1024 --peer mpi --pairs 5
          switchyard bench --backend cuda --ranks 8 --tokens 0,4096 --experts 256 --sms 4,8,16 --element bf16,fp8 --json results.json
        """;

    private static readonly string[] _backends = [Names.Cpu, Names.Cuda];

    private static readonly Option<string> _backend = Text("--backend", "NAME", Names.Cpu, $"What moves the rows: {Names.Of(_backends)}.");
    private static readonly Option<string> _mode = Text("--mode", "NAME", "throughput", "How: throughput.");
    private static readonly Option<string> _ranks = Text("--ranks", "LIST", "2", $"Ranks, 1 to {Limits.MaxRanks}.");
    private static readonly Option<bool> _processes = Flag("--processes", "A process a rank. Default: threads of one process.");
    private static readonly Option<string> _tokens = Text("--tokens", "LIST", "16,128,1024", "Tokens of each rank.");
    private static readonly Option<string> _hidden = Text("--hidden", "LIST", "7168", "Elements of a row.");
    private static readonly Option<string> _topK = Text("--top-k", "K", "8", "Experts that a token chooses.");
    private static readonly Option<string> _experts = Text("--experts", "E", "64", "Experts over all ranks.");
    private static readonly Option<string> _element = Text("--element", "LIST", "bf16", $"Element types: {Names.Of(RowElement.Names)}. The last is quantized on its way.");
    private static readonly Option<string> _layout = Text("--layout", "LIST", "rank", $"Order of rows: {Names.Of(Names.Layouts.Keys)}.");

    private static readonly Option<string> _routing = Text("--routing", "LIST", "uniform",
        $"How tokens choose: {Routing.Choices}. In a file: a token a line, its experts separated by blanks, -1 for none.");

    private static readonly Option<string?> _workers = Optional("--workers", "N", "Threads that move a rank's rows. Default: the cores shared out.");
    private static readonly Option<string?> _devices = Optional("--devices", "LIST", "GPUs on which the ranks are placed in turn. Default: all that are visible.");
    private static readonly Option<string?> _sms = Optional("--sms", "LIST", "Multiprocessors of its GPU that a rank takes. Default: the library's choice.");
    private static readonly Option<string> _repetitions = Text("--repetitions", "N", "200", "Timed repetitions, at least 2.");
    private static readonly Option<string> _warmup = Text("--warmup", "N", "20", "Repetitions before those, not timed.");
    private static readonly Option<string?> _peer = Optional("--peer", "NAME", $"Runs a peer in turn with ours: {MpiPeer.Name}.");
    private static readonly Option<string?> _pairs = Optional("--pairs", "N", "Runs in turn with the peer. Default: 5.");
    private static readonly Option<string?> _json = Optional("--json", "FILE", "Also writes the results there, as JSON.");

    public static Command Create()
    {
        var command = new Command("bench", Description)
        {
            _backend, _mode, _ranks, _processes, _tokens, _hidden, _topK, _experts, _element, _layout, _routing, _workers, _devices, _sms,
            _repetitions, _warmup, _peer, _pairs, _json,
        };
        command.SetAction((parse, _) => BenchRunner.RunAsync(Read(parse)));
        return command;
    }

    private static Option<string> Text(string name, string value, string ifAbsent, string description) =>
        new(name) { HelpName = value, Description = description, DefaultValueFactory = _ => ifAbsent };

    private static Option<string?> Optional(string name, string value, string description) =>
        new(name) { HelpName = value, Description = description };

    private static Option<bool> Flag(string name, string description) => new(name) { Description = description };

    private static BenchPlan Read(ParseResult parse)
    {
        RefuseOthers(parse);
        int[]? devices = Devices(parse);
        IReadOnlyList<Shape> shapes = [.. Shapes(parse)];
        int? pairs = Pairs(parse);
        foreach (Shape shape in shapes)
        {
            // Reads a file of choices once, so that what is wrong in it is said before anything starts.
            _ = Routing.Named(shape.Routing, shape.Experts, shape.TopK);
            if (OnGpus(parse)) RequireAligned(shape);
            if (pairs is not null) MpiPeer.RequireShape(shape);
        }
        if (OnGpus(parse)) shapes = [.. Placed(shapes, Gpus.Require(devices))];
        return new BenchPlan
        {
            Shapes = shapes,
            Repetitions = Number(parse, _repetitions, 2, 1_000_000),
            Warmup = Number(parse, _warmup, 0, 1_000_000),
            Pairs = pairs,
            JsonFile = parse.GetValue(_json) is { } path ? WritableFile(path) : null,
        };
    }

    private static void RefuseOthers(ParseResult parse)
    {
        Names.RequireOne(_backend.Name, parse.GetValue(_backend)!, _backends);
        Names.RequireOne(_mode.Name, parse.GetValue(_mode)!, ["throughput"]);
        (Option<string?>[] others, string why) = OnGpus(parse)
            ? (new[] { _workers, _peer }, "is for --backend cpu alone")
            : (new[] { _devices, _sms }, "is about GPUs, and --backend cpu uses none");
        foreach (Option<string?> other in others)
        {
            if (parse.GetValue(other) is { } value)
                throw new UsageException($"{other.Name} is {value}: it {why}.");
        }
    }

    private static bool OnGpus(ParseResult parse) => parse.GetValue(_backend) == Names.Cuda;

    private static int[]? Devices(ParseResult parse)
    {
        if (parse.GetValue(_devices) is not { } list) return null;
        int[] devices = [.. Names.Parts(_devices.Name, list).Select(part => Names.Number(_devices.Name, part, 0, int.MaxValue))];
        return devices.Distinct().Count() == devices.Length ? devices : throw new UsageException($"--devices is '{list}': a device is there twice.");
    }

    private static IEnumerable<Shape> Placed(IEnumerable<Shape> shapes, int[] devices)
    {
        foreach (Shape shape in shapes.Select(shape => shape with { Devices = devices }))
        {
            Gpus.RequireMultiprocessors(shape);
            yield return shape;
        }
    }

    private static IEnumerable<Shape> Shapes(ParseResult parse)
    {
        int experts = Number(parse, _experts, 1, Limits.MaxExperts);
        int topK = Number(parse, _topK, 1, Math.Min(Limits.MaxTopK, experts));
        return
            from ranks in Numbers(parse, _ranks, 1, Limits.MaxRanks)
            from tokens in Numbers(parse, _tokens, 0, Math.Min(Limits.MaxTokensPerRank, Limits.MaxRowsPerPeer / topK))
            from hidden in Numbers(parse, _hidden, 1, Limits.MaxHidden)
            from element in Names.Each(_element.Name, parse.GetValue(_element)!, RowElement.Names)
            from layout in Names.Each(_layout.Name, parse.GetValue(_layout)!, Names.Layouts.Keys)
            from routing in Names.Parts(_routing.Name, parse.GetValue(_routing)!)
            from sms in Sms(parse)
            select new Shape
            {
                Ranks = ranks,
                Processes = parse.GetValue(_processes),
                Tokens = tokens,
                Hidden = hidden,
                TopK = topK,
                Experts = experts,
                Element = element,
                Layout = Names.Layouts[layout],
                Routing = Routing.FullName(routing),
                Workers = parse.GetValue(_workers) is { } workers ? Names.Number(_workers.Name, workers, 1, Limits.MaxWorkerThreads) : null,
                Sms = sms,
            };
    }

    private static IEnumerable<int?> Sms(ParseResult parse) => parse.GetValue(_sms) is { } list
        ? Names.Parts(_sms.Name, list).Select(part => (int?)Names.Number(_sms.Name, part, 1, int.MaxValue))
        : [null];

    private static void RequireAligned(Shape shape)
    {
        foreach (int bytes in (int[])[shape.RowBytes, shape.ResultRowBytes])
        {
            if (bytes % DeviceRows.Alignment != 0)
                throw new UsageException($"--hidden is {shape.Hidden}: rows of {shape.Element} then have {bytes} bytes; on a GPU they are multiples of {DeviceRows.Alignment}.");
        }
    }

    private static int? Pairs(ParseResult parse)
    {
        string? peer = parse.GetValue(_peer), pairs = parse.GetValue(_pairs);
        if (peer is null)
            return pairs is null ? null : throw new UsageException($"--pairs is {pairs}, but there is no --peer to run in turn with.");
        Names.RequireOne(_peer.Name, peer, [MpiPeer.Name]);
        return Names.Number(_pairs.Name, pairs ?? "5", 1, 1000);
    }

    private static int Number(ParseResult parse, Option<string> option, int least, int most) =>
        Names.Number(option.Name, parse.GetValue(option)!, least, most);

    private static IEnumerable<int> Numbers(ParseResult parse, Option<string> option, int least, int most) =>
        Names.Parts(option.Name, parse.GetValue(option)!).Select(part => Names.Number(option.Name, part, least, most));

    private static string WritableFile(string path)
    {
        string full = Path.GetFullPath(path);
        return Directory.Exists(Path.GetDirectoryName(full)) && !Directory.Exists(full)
            ? full
            : throw new UsageException($"--json is '{path}': there is no such folder, or it is one.");
    }
}
