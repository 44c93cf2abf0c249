using Switchyard.Arena;
using Switchyard.Conformance;
using Switchyard.Cpu;
using Xunit;

namespace Switchyard.Tests;

/// <summary>
/// Ranks step while a bit of some word of some rank's control block is changed at a random moment: each rank gets what it gets without, bit for bit,
/// or an error in time that blames the word's writer or the rank in whose arena it lies, and no third one.
/// </summary>
[Trait(Soak.Trait, "words")]
public sealed unsafe class LiveCorruptionTests
{
    private const int Steps = 3;
    private const int Tokens = 3;
    private const int Hidden = 8;
    private const int Anyone = -1;

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    public void A_bit_changed_in_the_middle_of_things_does_no_harm_unseen(int ranks)
    {
        int end = 8 * ranks * (int)new Ranks(ranks).UsedThenDisposed();
        int failed = 0;
        int[] bits = Soak.Sample(0, end, inCi: 600);
        Random.Shared.Shuffle(bits);
        var group = new Ranks(ranks);
        try
        {
            foreach (int bit in bits)
            {
                (int arena, int at) = Math.DivRem(bit / 8, end / 8 / ranks);
                SwitchyardException?[] errors = group.Run(arena, at, bit % 8);
                if (Array.TrueForAll(errors, error => error is null)) continue;
                failed++;
                int writer = group.WriterOf(at);
                Assert.All(errors, error => Assert.True(
                    error is null || writer == Anyone || Blamed(error) is Anyone || Blamed(error) == writer || Blamed(error) == arena,
                    $"byte {at} bit {bit % 8} of the arena of rank {arena}, which rank {writer} writes: {error?.Message}"));
                group.Dispose();
                group = new Ranks(ranks);
            }
        }
        finally
        {
            group.Dispose();
        }
        Soak.Report($"bits changed while {ranks} ranks step", $"{bits.Length} changed, {failed} ended in an error, no wrong result");
    }

    private static int Blamed(SwitchyardException error) => error switch
    {
        PeerLostException lost => lost.Peer.Rank,
        PeerTimeoutException late => late.Peer.Rank,
        CallMismatchException mismatch => mismatch.Other,
        CapacityException full => full.Rank,
        ProtocolException broken => broken.Peer,
        _ => throw new InvalidOperationException($"No word of a peer may end in {error}"),
    };

    /// <summary>Ranks that make the same steps again and again, each on a thread of its own.</summary>
    private sealed class Ranks : IDisposable
    {
        private readonly ExpertGroup[] _groups;
        private readonly ExpertBuffer[] _buffers;
        private readonly float[]?[] _expected;

        public Ranks(int ranks)
        {
            _groups = ExpertGroup.CreateLocal(ranks);
            var options = new ExpertBufferOptions
            {
                Backend = CpuBackend.Instance,
                Experts = ranks + 2,
                TopK = 2,
                Hidden = Hidden,
                MaxTokensPerRank = Tokens,
                Element = ElementType.Single,
                WorkerThreads = 1,
                Deadline = TimeSpan.FromSeconds(3),
            };
            _buffers = Task.WhenAll(_groups.Select(group => ExpertBuffer.CreateAsync(group, options))).GetAwaiter().GetResult();
            _expected = new float[ranks][];
            Assert.All(Run(() => { }), Assert.Null);
        }

        private ArenaLayout Layout => _buffers[0].Layout;

        /// <summary>The bytes of a control block that have a meaning; for counting alone.</summary>
        public long UsedThenDisposed()
        {
            Dispose();
            return Layout.RingOffset + ((long)Layout.Ranks * ArenaLayout.RingDepth * Layout.EntryBytes);
        }

        public int WriterOf(int at)
        {
            if (at >= Layout.RingOffset) return (int)((at - Layout.RingOffset) / (ArenaLayout.RingDepth * Layout.EntryBytes));
            if (at < Layout.ArrivalsOffset) return Anyone;
            return (int)((at - Layout.ArrivalsOffset) / ArenaLayout.LineBytes % Layout.Ranks);
        }

        /// <summary>Steps with a bit changed meanwhile: by rank the error that it ended in.</summary>
        public SwitchyardException?[] Run(int arena, int at, int bit)
        {
            byte* place = _buffers[arena].ArenaBase + at;
            SwitchyardException?[] errors = Run(() =>
            {
                Thread.SpinWait(Random.Shared.Next(3000));
                *place ^= (byte)(1 << bit);
            });
            // Once more: a word that was changed late is read late.
            if (Array.TrueForAll(errors, error => error is null)) errors = Run(() => { });
            // Read only by who waits long, and never written again: another trial would be taken for this one.
            new Span<byte>(_buffers[arena].ArenaBase + Layout.ClosedOffset, Layout.Ranks * ArenaLayout.LineBytes).Clear();
            return errors;
        }

        public void Dispose()
        {
            foreach (ExpertBuffer buffer in _buffers) buffer.Dispose();
            foreach (ExpertGroup group in _groups) group.Dispose();
        }

        private SwitchyardException?[] Run(Action meanwhile)
        {
            Task<SwitchyardException?>[] runs = [.. _groups.Select(group => Task.Factory.StartNew(() => StepAll(group.Rank), TaskCreationOptions.LongRunning))];
            meanwhile();
            return Task.WhenAll(runs).WaitAsync(TimeSpan.FromSeconds(60)).GetAwaiter().GetResult();
        }

        private SwitchyardException? StepAll(int rank)
        {
            try
            {
                for (int step = 0; step < Steps; step++)
                {
                    float[] got = Step(rank);
                    _expected[rank] ??= got;
                    Assert.Equal<float>(_expected[rank], got);
                }
                return null;
            }
            catch (SwitchyardException error)
            {
                // As a program does that gives up: its peers must not wait for it. Its arena stays until nobody changes bits there.
                _groups[rank].Dispose();
                return error;
            }
        }

        /// <summary>All that a rank receives and all that comes back to it.</summary>
        private float[] Step(int rank)
        {
            ExpertBuffer buffer = _buffers[rank];
            int experts = buffer.Options.Experts;
            float[] x = [.. Enumerable.Range(0, Tokens * Hidden).Select(i => (rank * 100) + i + 0.5f)], output = new float[Tokens * Hidden];
            int[] choices = [.. Enumerable.Range(0, Tokens).SelectMany(token => new[] { (rank + token) % experts, (rank + token + 2) % experts })];
            using Dispatched d = buffer.Dispatch(x, choices, default, new DispatchOptions { Layout = RowLayout.ExpertMajor });
            float[] received = d.Rows.AsSpan<float>().ToArray();
            buffer.Combine(d.Rows, d.Handle, output);
            return [.. received, .. output];
        }
    }
}
