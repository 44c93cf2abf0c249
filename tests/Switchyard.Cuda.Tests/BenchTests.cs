using System.Diagnostics;
using System.Text.Json;

namespace Switchyard.Cuda.Tests;

/// <summary>The tool's bench on devices: short runs, whose results its oracle verifies.</summary>
public sealed class BenchTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("switchyard-test-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData(1, "--ranks", "1,8", "--tokens", "0,50", "--devices", "0", "--sms", "4")]
    [InlineData(1, "--ranks", "2", "--tokens", "33", "--devices", "0", "--element", "half,fp8", "--layout", "rank,expert", "--routing", "one-hot")]
    [InlineData(1, "--ranks", "2", "--tokens", "20", "--devices", "0", "--processes")]
    [InlineData(2, "--ranks", "2,3", "--tokens", "40", "--devices", "0,1")]
    [InlineData(2, "--ranks", "2", "--tokens", "40", "--devices", "1,0", "--processes")]
    public async Task Short_runs_are_verified(int devices, params string[] options)
    {
        Gpu.SkipUnlessPresent(devices);
        JsonElement[] rows = await RunAsync(["--hidden", "256", "--experts", "16", "--repetitions", "4", "--warmup", "1", .. options]);
        Assert.All(rows, row => Assert.True(row.GetProperty("verified").GetBoolean(), row.ToString()));
        JsonElement[] links = [.. rows.Where(IsLink)], shapes = [.. rows.Where(row => !IsLink(row))];
        Assert.Equal(devices - 1, links.Length);
        Assert.All(links, link => Assert.InRange(link.GetProperty("oneWayGBps").GetDouble(), 1, 10_000));
        Assert.All(shapes, RequireSense);
    }

    private static bool IsLink(JsonElement row) => row.GetProperty("mode").GetString() == "link";

    private static void RequireSense(JsonElement shape)
    {
        Assert.Equal("cuda", shape.GetProperty("backend").GetString());
        Assert.StartsWith("CUDA ", shape.GetProperty("driver").GetString(), StringComparison.Ordinal);
        Assert.Equal(0, shape.GetProperty("allocatedBytesPerStep").GetDouble());
        Assert.InRange(shape.GetProperty("copyGBps").GetDouble(), 10, 100_000);
        // Processes that share a device may wait for many of each other's turns.
        double longest = shape.GetProperty("processes").GetBoolean() ? 10_000_000 : 100_000;
        foreach (string phase in (string[])["dispatchUs", "combineUs", "hostDispatchUs", "hostCombineUs"])
            Assert.InRange(shape.GetProperty(phase).GetProperty("p50").GetDouble(), 0.1, longest);
        bool crosses = shape.GetProperty("devices").GetArrayLength() > 1;
        Assert.Equal(crosses ? JsonValueKind.Number : JsonValueKind.Null, shape.GetProperty("dispatchPhysicalGBps").ValueKind);
    }

    private async Task<JsonElement[]> RunAsync(string[] options)
    {
        string file = Path.Combine(_folder.FullName, "results.json");
        string[] command = ["bench", "--backend", "cuda", "--json", file, .. options];
        var start = new ProcessStartInfo(Path.Combine(AppContext.BaseDirectory, "Switchyard.Cli"), command)
        {
            // The host takes a program for another kind of it where it is started from its own folder.
            WorkingDirectory = _folder.FullName,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process tool = Process.Start(start)!;
        Task<string> output = tool.StandardOutput.ReadToEndAsync(), errors = tool.StandardError.ReadToEndAsync();
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(5));
        try
        {
            await tool.WaitForExitAsync(limit.Token);
        }
        finally
        {
            // The ranks end with it.
            if (!tool.HasExited) tool.Kill();
        }
        Assert.True(tool.ExitCode == 0, $"ended with {tool.ExitCode}: {await errors}{await output}");
        using var document = JsonDocument.Parse(await File.ReadAllTextAsync(file));
        return [.. document.RootElement.Clone().EnumerateArray()];
    }
}
