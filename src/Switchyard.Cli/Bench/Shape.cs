using System.Text.Json.Serialization;

namespace Switchyard.Cli.Bench;

/// <summary>What is measured in one go.</summary>
internal sealed record Shape
{
    public required int Ranks { get; init; }

    /// <summary>A process a rank; otherwise the ranks are threads of one process.</summary>
    public required bool Processes { get; init; }

    /// <summary>Tokens of each rank.</summary>
    public required int Tokens { get; init; }

    public required int Hidden { get; init; }
    public required int TopK { get; init; }
    public required int Experts { get; init; }

    /// <summary>The name of a <see cref="RowElement"/>.</summary>
    public required string Element { get; init; }

    public required RowLayout Layout { get; init; }

    /// <summary>The name of a <see cref="Routing"/>.</summary>
    public required string Routing { get; init; }

    /// <summary>Threads that move a rank's rows; null for the library's choice.</summary>
    public int? Workers { get; init; }

    /// <summary>The GPUs that the ranks are placed on in turn; null where the CPU moves the rows.</summary>
    public IReadOnlyList<int>? Devices { get; init; }

    /// <summary>Multiprocessors of a GPU that a rank takes; null for the library's choice.</summary>
    public int? Sms { get; init; }

    [JsonIgnore]
    public string Backend => Devices is null ? Names.Cpu : Names.Cuda;

    /// <summary>Bytes of a row as a rank gives it, its scales not counted.</summary>
    [JsonIgnore]
    public int GivenRowBytes => Hidden * RowElement.Named(Element).Bytes;

    /// <summary>Bytes of a row as it arrives, its scales not counted.</summary>
    [JsonIgnore]
    public int RowBytes => Hidden * RowElement.Named(Element).Arriving.Bytes;

    /// <summary>Bytes of a row as it is combined.</summary>
    [JsonIgnore]
    public int ResultRowBytes => Hidden * RowElement.Named(Element).Result.Bytes;

    [JsonIgnore]
    public string LayoutName => Layout == RowLayout.RankMajor ? "rank" : "expert";

    /// <summary>The devices that have a rank.</summary>
    [JsonIgnore]
    public IReadOnlyList<int> UsedDevices => [.. Devices!.Take(Ranks)];

    /// <summary>Ranks on the device that has most.</summary>
    [JsonIgnore]
    public int RanksPerDevice => (Ranks + Devices!.Count - 1) / Devices.Count;

    public int DeviceOf(int rank) => Devices![rank % Devices.Count];

    public override string ToString() =>
        $"{Ranks} {(Processes ? "processes" : "threads")} x {Tokens} x {Hidden} {Element}, {LayoutName}, {Routing}{(Sms is null ? "" : $", {Sms} multiprocessors")}";
}
