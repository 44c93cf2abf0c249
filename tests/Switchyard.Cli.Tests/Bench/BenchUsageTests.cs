using System.Runtime.InteropServices;
using Xunit;

namespace Switchyard.Cli.Tests.Bench;

public sealed class BenchUsageTests
{
    [Theory]
    [InlineData("--backend is 'rocm': this version has cpu or cuda.", "--backend", "rocm")]
    [InlineData("--mode is 'low-latency': this version has throughput.", "--mode", "low-latency")]
    [InlineData("--sms is 16: it is about GPUs, and --backend cpu uses none.", "--sms", "16")]
    [InlineData("--devices is 0,1: it is about GPUs, and --backend cpu uses none.", "--devices", "0,1")]
    [InlineData("--workers is 2: it is for --backend cpu alone.", "--backend", "cuda", "--workers", "2")]
    [InlineData("--peer is mpi: it is for --backend cpu alone.", "--backend", "cuda", "--processes", "--peer", "mpi")]
    [InlineData("--devices is 'one': it must be a whole number", "--backend", "cuda", "--devices", "0,one")]
    [InlineData("--devices is '0,1,0': a device is there twice.", "--backend", "cuda", "--devices", "0,1,0")]
    [InlineData("--sms is '0': it must be a whole number from 1 to", "--backend", "cuda", "--sms", "8,0")]
    [InlineData("--sms is '8,': a value is empty.", "--backend", "cuda", "--sms", "8,")]
    [InlineData("--hidden is 100: rows of bf16 then have 200 bytes; on a GPU they are multiples of 16.", "--backend", "cuda", "--hidden", "64,100")]
    [InlineData("--hidden is 72: rows of fp8 then have 72 bytes", "--backend", "cuda", "--hidden", "72", "--element", "fp8")]
    [InlineData("--element is 'int4': this version has bf16", "--element", "bf16,int4")]
    [InlineData("--layout is 'row': this version has rank or expert.", "--layout", "rank,row")]
    [InlineData("--routing is 'random': choose uniform, zipf:S, one-hot or file:F.", "--routing", "uniform,random")]
    [InlineData("--routing is 'zipf:steep': the exponent must be a number from 0 to 10", "--routing", "zipf:steep")]
    [InlineData("--routing: cannot read '/no/such'", "--routing", "file:/no/such")]
    [InlineData("--ranks is '65': it must be a whole number from 1 to 64.", "--ranks", "2,65")]
    [InlineData("--ranks is '2,,4': a value is empty.", "--ranks", "2,,4")]
    [InlineData("--tokens is '-1': it must be a whole number from 0 to", "--tokens", "-1")]
    [InlineData("--hidden is '64x': it must be a whole number from 1 to", "--hidden", "64x")]
    [InlineData("--top-k is '9': it must be a whole number from 1 to 8.", "--top-k", "9", "--experts", "8")]
    [InlineData("--experts is '5000': it must be a whole number from 1 to 4096.", "--experts", "5000")]
    [InlineData("--repetitions is '1': it must be a whole number from 2 to", "--repetitions", "1")]
    [InlineData("--workers is '0': it must be a whole number from 1 to 256.", "--workers", "0")]
    [InlineData("--json is '/no/such/file'", "--json", "/no/such/file")]
    [InlineData("--peer is 'nccl': this version has mpi.", "--processes", "--peer", "nccl")]
    [InlineData("--pairs is 3, but there is no --peer", "--pairs", "3")]
    [InlineData("--peer mpi needs a token on each rank", "--processes", "--peer", "mpi", "--tokens", "0")]
    [InlineData("--peer mpi has a process a rank: add --processes.", "--peer", "mpi")]
    [InlineData("--peer mpi knows bf16, rank and uniform, not bf16, expert", "--processes", "--peer", "mpi", "--layout", "expert")]
    [InlineData("--experts is 64 and --ranks is 3", "--processes", "--peer", "mpi", "--ranks", "3")]
    [InlineData("See 'switchyard bench --help'", "--no-such-option")]
    public async Task A_wrong_command_is_refused_in_one_line(string expected, params string[] arguments)
    {
        await using Tool tool = Tool.Start(["bench", .. arguments]);
        Assert.Equal(2, await tool.ExitCodeAsync());
        Assert.Contains(expected, Assert.Single(tool.Errors), StringComparison.Ordinal);
        Assert.Empty(tool.Output);
    }

    [Fact]
    public async Task Without_a_driver_GPUs_are_refused_in_one_line()
    {
        Assert.SkipWhen(NativeLibrary.TryLoad("libcuda.so.1", out _), "there is a driver here");
        await using Tool tool = Tool.Start(["bench", "--backend", "cuda"]);
        Assert.Equal(2, await tool.ExitCodeAsync());
        Assert.StartsWith("switchyard: --backend cuda: There is no NVIDIA driver here: ", Assert.Single(tool.Errors), StringComparison.Ordinal);
        Assert.Empty(tool.Output);
    }

    [Theory]
    [InlineData("0 1\n0 4\n", "line 2: '4' is not an expert from 0 to 3")]
    [InlineData("0 1\n\n", "line 2: 0 experts, but --top-k is 2.")]
    [InlineData("0 one\n", "line 1: 'one' is not an expert")]
    [InlineData("-1 -2\n", "line 1: '-2' is not an expert")]
    [InlineData("-1 -1\n3 3\n", "line 2: expert 3 twice.")]
    [InlineData("", "has no line.")]
    public async Task A_file_of_choices_is_checked_line_by_line(string content, string expected)
    {
        string file = Path.GetTempFileName();
        await File.WriteAllTextAsync(file, content);
        await using Tool tool = Tool.Start(["bench", "--top-k", "2", "--experts", "4", "--routing", $"file:{file}"]);
        Assert.Equal(2, await tool.ExitCodeAsync());
        Assert.Contains($"{file}", Assert.Single(tool.Errors), StringComparison.Ordinal);
        Assert.Contains(expected, tool.Errors[0], StringComparison.Ordinal);
        File.Delete(file);
    }

    [Fact]
    public async Task Ranks_for_the_bench_are_no_command_to_show()
    {
        await using Tool tool = Tool.Start(["--help"]);
        await tool.ExitCodeAsync();
        Assert.Contains(tool.Output, line => line.Contains("bench", StringComparison.Ordinal));
        Assert.DoesNotContain(tool.Output, line => line.Contains("bench-ranks", StringComparison.Ordinal));
    }
}
