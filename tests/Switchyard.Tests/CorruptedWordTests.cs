using System.Runtime.CompilerServices;
using Switchyard.Conformance;
using Switchyard.Protocol;
using Xunit;

namespace Switchyard.Tests;

/// <summary>
/// A word that a peer wrote is damaged before it is read, or never comes: the step fails with an error that names the peer, or all of it is right.
/// </summary>
[Trait(Soak.Trait, "words")]
public sealed unsafe class CorruptedWordTests
{
    private const int FlagBits = 64;
    private const int FieldsEnd = 128;

    /// <summary>The lowest bits of an epoch word are its count.</summary>
    private const int CountBits = 24;

    private static readonly TimeSpan _deadline = TimeSpan.FromSeconds(1);

    [Theory]
    [InlineData("dispatch")]
    [InlineData("combine")]
    public void A_changed_bit_of_an_announcement_names_its_writer_or_does_nothing(string word)
    {
        int end = 8 * (Unsafe.SizeOf<Announcement>() + (word == "dispatch" ? 4 * sizeof(int) : 0));
        using var trials = new Trials(_deadline);
        int missed = 0, named = 0;
        foreach (int bit in Soak.Sample(FlagBits, end, inCi: 200))
        {
            SwitchyardException? error = trials.Run(word, (rank, flag) =>
            {
                ((byte*)rank.Entry)[bit / 8] ^= (byte)(1 << (bit % 8));
                return flag;
            });
            Assert.True(error is null or ProtocolException { Peer: 1 }, $"bit {bit}: {error}");
            Assert.True(error is not null || !IsSigned(bit / 8), $"bit {bit} was changed, and nobody noticed");
            _ = error is null ? missed++ : named++;
        }
        Soak.Report($"bits of a {word}'s announcement", $"{named} name the writer, {missed} without a meaning are harmless");
    }

    [Theory]
    [InlineData("dispatch")]
    [InlineData("arrival")]
    [InlineData("combine")]
    [InlineData("done")]
    public void A_changed_bit_of_an_epoch_word_names_its_writer_or_does_nothing(string word)
    {
        using var trials = new Trials(_deadline);
        int harmless = 0, named = 0;
        foreach (int bit in Soak.Sample(0, 64))
        {
            SwitchyardException? error = trials.Run(word, (_, value) => value ^ (1UL << bit));
            Assert.True(error is ProtocolException { Peer: 1 } or PeerTimeoutException { Peer.Rank: 1 } || (error is null && word == "done"), $"bit {bit}: {error}");
            _ = error is null ? harmless++ : named++;
        }
        Soak.Report($"bits of the epoch word '{word}'", $"{named} name the writer, {harmless} are harmless");
    }

    /// <summary>A bit of an earlier call's word is changed, and this call's never comes: for some bit it then looks like this call's.</summary>
    [Theory]
    [InlineData("dispatch")]
    [InlineData("arrival")]
    [InlineData("combine")]
    public void An_earlier_word_that_is_a_bit_away_is_not_believed(string word)
    {
        using var trials = new Trials(TimeSpan.FromMilliseconds(300));
        foreach (int bit in Soak.Sample(CountBits, 64, inCi: 12))
        {
            Assert.Null(trials.Run(word, (_, value) => value));
            SwitchyardException? error = trials.Run(word, (rank, _) => *WordOf(rank, word) ^ (1UL << bit));
            Assert.True(error is ProtocolException { Peer: 1 } or PeerTimeoutException { Peer.Rank: 1 }, $"bit {bit}: {error}");
        }
    }

    [Theory]
    [InlineData("dispatch")]
    [InlineData("combine")]
    public void A_flag_without_its_announcement_is_not_believed(string word)
    {
        using var trials = new Trials(_deadline);
        SwitchyardException? error = trials.Run(word, (rank, flag) =>
        {
            new Span<byte>((byte*)rank.Entry + (FlagBits / 8), FieldsEnd - (FlagBits / 8)).Clear();
            return flag;
        });
        Assert.Equal(1, Assert.IsType<ProtocolException>(error).Peer);
    }

    [Theory]
    [InlineData("dispatch")]
    [InlineData("arrival")]
    [InlineData("combine")]
    public void What_comes_without_its_flag_is_not_taken(string word)
    {
        using var trials = new Trials(TimeSpan.FromMilliseconds(300));
        Assert.Equal(1, Assert.IsType<PeerTimeoutException>(trials.Run(word, (_, _) => null)).Peer.Rank);
    }

    private static ulong* WordOf(HandPlayedRank rank, string word) => word switch
    {
        "arrival" => rank.Arrival,
        "done" => rank.Done,
        _ => &rank.Entry->Flag,
    };

    /// <summary>Fields and the check, not the bytes between and behind them.</summary>
    private static bool IsSigned(int at) => at is (>= 8 and < 35) or (>= 40 and < 92) or >= FieldsEnd;

    /// <summary>Steps that are tampered with, one after another; after an error with new ranks.</summary>
    private sealed class Trials(TimeSpan deadline) : IDisposable
    {
        private HandPlayedRank _ranks = new(deadline);

        /// <summary>A step in which something else may be written for a word; and one more, which reads what the first did not.</summary>
        public SwitchyardException? Run(string word, Func<HandPlayedRank, ulong, ulong?> write)
        {
            _ranks.Writes = (name, value) => name == word ? write(_ranks, value) : value;
            SwitchyardException? error = _ranks.Step();
            _ranks.Writes = (_, value) => value;
            error ??= _ranks.Step();
            if (error is null) return null;
            _ranks.Dispose();
            _ranks = new HandPlayedRank(deadline);
            return error;
        }

        public void Dispose() => _ranks.Dispose();
    }
}
