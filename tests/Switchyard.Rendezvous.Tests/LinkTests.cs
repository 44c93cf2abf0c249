namespace Switchyard.Rendezvous.Tests;

/// <summary>What a peer may send over a link, and what ends it.</summary>
public sealed class LinkTests : IDisposable
{
    private readonly PacketSocket _peer;
    private readonly PeerLink _link;
    private readonly List<RankNews> _news = [];
    private static readonly RankSet _group = RankSet.AllOf(8);

    public LinkTests()
    {
        (PacketSocket mine, _peer) = PacketSocket.CreatePair();
        _link = new PeerLink(3, _group, generation: 7, new PeerTie(mine, null));
    }

    public void Dispose()
    {
        _link.Dispose();
        _peer.Dispose();
    }

    [Fact]
    public void Chunks_in_order_make_a_contribution()
    {
        Send(Chunk(total: 5, offset: 0), [1, 2, 3]);
        Send(Chunk(total: 5, offset: 3), [4, 5]);
        Assert.Equal([1, 2, 3, 4, 5], Assert.Single(_link.Ready).Take().Payload);
        Assert.False(_link.HasEnded);
    }

    [Theory]
    [InlineData("membership 8", 8L, 0L, 1L, 0L, 0L, 1)]
    [InlineData("all-gather 1", 7L, 1L, 1L, 0L, 0L, 1)]
    [InlineData("-1 bytes", 7L, 0L, -1L, 0L, 0L, 1)]
    [InlineData("4294967295 bytes", 7L, 0L, 0xFFFFFFFFL, 0L, 0L, 1)]
    [InlineData("at 4294967297", 7L, 0L, 2L, 0x100000001L, 0L, 1)]
    [InlineData("2 bytes at 0 of 1", 7L, 0L, 1L, 0L, 0L, 2)]
    [InlineData("0 bytes at 0 of 1", 7L, 0L, 1L, 0L, 0L, 0)]
    [InlineData("0 descriptors with an arena of 4096", 7L, 0L, 1L, 0L, 4096L, 1)]
    public void A_frame_that_does_not_fit_ends_the_link(
        string fault, long generation, long sequence, long total, long offset, long arenaBytes, int chunkBytes)
    {
        Send(new LinkFrame(LinkFrameKind.Chunk, generation, sequence, total, offset, arenaBytes), new byte[chunkBytes]);
        Assert.Contains(fault, _link.Violation?.Message, StringComparison.Ordinal);
        Assert.Equal(3, _link.Violation!.Peer);
        Assert.True(_link.HasEnded);
        Assert.Empty(_link.Ready);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(47)]
    [InlineData(48)]
    [InlineData(LinkFrame.MaxBytes + 1)]
    public void What_is_no_frame_ends_the_link(int bytes)
    {
        _peer.Send(new byte[bytes]);
        _link.Receive(new byte[LinkFrame.MaxBytes], _news);
        Assert.Contains("no frame", _link.Violation?.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Nobody_can_be_two_calls_ahead()
    {
        for (int i = 0; i < 3; i++) Send(Chunk(1, 0) with { Sequence = i }, [0]);
        Assert.Contains("all-gather 2", _link.Violation?.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Descriptors_that_nobody_asked_for_are_closed()
    {
        int before = TestJob.OpenDescriptors();
        foreach (LinkFrame frame in new[] { Chunk(1, 0), new LinkFrame(LinkFrameKind.Goodbye, 7) })
        {
            (PacketSocket mine, PacketSocket peer) = PacketSocket.CreatePair();
            using var link = new PeerLink(3, _group, 7, new PeerTie(mine, null));
            var head = new byte[LinkFrame.HeadBytes];
            frame.Write(head);
            peer.Send(head, frame.Kind == LinkFrameKind.Chunk ? [1] : [], [0, 1, 2]);
            peer.Dispose();
            link.Receive(new byte[LinkFrame.MaxBytes], _news);
            Assert.NotNull(link.Violation);
        }
        Assert.InRange(TestJob.OpenDescriptors(collect: false), 0, before);
    }

    [Fact]
    public void An_arena_shorter_than_stated_is_refused()
    {
        var arena = new TestArena(4096);
        var head = new byte[LinkFrame.HeadBytes];
        (Chunk(1, 0) with { ArenaBytes = 8192 }).Write(head);
        _peer.Send(head, [1], [(int)arena.Descriptor.DangerousGetHandle()]);
        _link.Receive(new byte[LinkFrame.MaxBytes], _news);
        Assert.Contains("memory of 4096 bytes as an arena of 8192", _link.Violation?.Message, StringComparison.Ordinal);
        arena.Release();
    }

    [Fact]
    public void A_notice_of_loss_precedes_the_end_and_a_goodbye_survives_a_reset()
    {
        _link.Notify(LinkFrameKind.Lost, RankSet.Of([1])); // stays unread at the peer: its close resets the connection
        Send(About(LinkFrameKind.Lost, 5), []);
        var head = new byte[LinkFrame.HeadBytes];
        new LinkFrame(LinkFrameKind.Goodbye, 7).Write(head);
        _peer.Send(head);
        _peer.Dispose();
        _link.Receive(new byte[LinkFrame.MaxBytes], _news);
        Assert.Equal([new RankNews(LinkFrameKind.Lost, 3, RankSet.Of([5]))], _news);
        Assert.Equal((true, true, null), (_link.SaidGoodbye, _link.HasEnded, _link.Violation));
    }

    [Theory]
    [InlineData(3)] // itself
    [InlineData(8)]
    [InlineData(63)]
    public void A_peer_can_tell_only_of_the_other_ranks_of_the_group(int rank)
    {
        Send(About(LinkFrameKind.Vote, rank), []);
        Assert.Contains("frame of kind 5", _link.Violation?.Message, StringComparison.Ordinal);
        Assert.Empty(_news);
    }

    [Fact]
    public void What_a_peer_sent_in_an_earlier_membership_is_dropped_with_its_descriptors_unless_it_left()
    {
        int before = TestJob.OpenDescriptors();
        var head = new byte[LinkFrame.HeadBytes];
        (Chunk(1, 0) with { Generation = 6 }).Write(head);
        _peer.Send(head, [1], [0, 1]);
        Send(About(LinkFrameKind.Commit, 5) with { Generation = 6 }, []);
        Assert.Equal((0, false, null), (_link.Ready.Count, _link.HasEnded, _link.Violation));
        Assert.Empty(_news);
        Send(About(LinkFrameKind.Fenced, 5) with { Generation = 5 }, []);
        Assert.Empty(_news);
        Send(About(LinkFrameKind.Fenced, 5) with { Generation = 6 }, []);
        Assert.Equal(LinkFrameKind.Fenced, Assert.Single(_news).Kind);
        Send(new LinkFrame(LinkFrameKind.Goodbye, 6), []);
        Assert.True(_link.SaidGoodbye);
        Assert.InRange(TestJob.OpenDescriptors(collect: false), 0, before);
    }

    [Fact]
    public void What_follows_a_commit_is_left_for_the_next_membership()
    {
        var head = new byte[LinkFrame.HeadBytes];
        About(LinkFrameKind.Commit, 5).Write(head);
        _peer.Send(head);
        (Chunk(1, 0) with { Generation = 8 }).Write(head);
        _peer.Send(head, [9]);
        _link.Receive(new byte[LinkFrame.MaxBytes], _news);
        _link.Receive(new byte[LinkFrame.MaxBytes], _news);
        Assert.Single(_news);
        Assert.Null(_link.Violation);
        using var next = new PeerLink(3, _group, 8, _link.Detach());
        next.Receive(new byte[LinkFrame.MaxBytes], _news);
        Assert.Equal([9], Assert.Single(next.Ready).Take().Payload);
    }

    private static LinkFrame About(LinkFrameKind kind, int rank) => new(kind, 7, (long)RankSet.Of([rank]).Bits);

    private static LinkFrame Chunk(long total, long offset) => new(LinkFrameKind.Chunk, 7, 0, total, offset);

    private void Send(LinkFrame frame, byte[] chunk)
    {
        var head = new byte[LinkFrame.HeadBytes];
        frame.Write(head);
        Assert.Equal(SendResult.Sent, _peer.Send(head, chunk));
        _link.Receive(new byte[LinkFrame.MaxBytes], _news);
    }
}
