using System.Text.Json.Serialization;
using Switchyard.Cli.Bench.Peers;
using Switchyard.Cli.Bench.Report;
using Switchyard.Cli.Bench.Work;

namespace Switchyard.Cli.Bench;

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = true)]
[JsonSerializable(typeof(Job))]
[JsonSerializable(typeof(RankResult))]
[JsonSerializable(typeof(PeerResult))]
[JsonSerializable(typeof(Measurement))]
[JsonSerializable(typeof(LinkMeasurement))]
internal sealed partial class BenchJson : JsonSerializerContext;
