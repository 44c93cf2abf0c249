using System.Net;

namespace Switchyard.Rendezvous.Bootstrap;

/// <summary>The cards of all ranks, found to be of one group.</summary>
internal sealed class Roster
{
    private readonly byte[][] _frames;

    private Roster(byte[][] frames, Card[] cards)
    {
        _frames = frames;
        Cards = cards;
    }

    public Card[] Cards { get; }

    public Member[] Members => [.. Cards.Select((card, rank) =>
        new Member(card.Hello.Host, card.Hello.ProcessId, card.Hello.StartTime, Array.FindIndex(Cards, IsSameMachineAs(card))))];

    /// <summary>The key that only who saw all cards as they are can make, and only with the token if there is one.</summary>
    public JobToken KeyFor(JobToken? token) => JobToken.Derive(token, "switchyard mesh"u8, [.. _frames.SelectMany(frame => frame)]);

    public bool AreOfOneMachine(int rank, int other) => IsSameMachineAs(Cards[rank])(Cards[other]);

    /// <summary>Checks what the all-gather returned. All ranks find the same fault first, since each card is held against rank 0's.</summary>
    /// <exception cref="JoinException">The ranks do not fit together; the message names two that differ.</exception>
    public static Roster Parse(byte[][] frames, byte[] mine, ExpertGroupOptions options)
    {
        if (frames.Length > Limits.MaxRanks) throw WrongCount(frames.Length, options);
        for (int rank = 0; rank < frames.Length; rank++) RequireVersion(frames[rank], rank);
        Card[] cards = [.. frames.Select((frame, rank) => Card.Parse(frame) ?? throw NoCard(frame, rank))];
        for (int rank = 0; rank < cards.Length; rank++) RequireLike(cards[0].Hello, cards[rank].Hello, rank);
        if (cards.Length != options.Size) throw WrongCount(frames.Length, options);
        for (int rank = 0; rank < cards.Length; rank++) RequireRank(cards, rank);
        if (!frames[options.Rank].AsSpan().SequenceEqual(mine))
            throw new JoinException($"The all-gather returned other bytes for rank {options.Rank} than that rank gave.");
        var roster = new Roster(frames, cards);
        roster.RequireReachable();
        return roster;
    }

    private static void RequireVersion(byte[]? frame, int rank)
    {
        int version = Card.VersionOf(frame) ?? throw NoCard(frame, rank);
        if (version != JoinFrames.Version)
        {
            throw new JoinException($"Rank {rank} speaks version {version} of the protocol, this rank {JoinFrames.Version}: "
                + "start all ranks from the same version of Switchyard.");
        }
    }

    private static void RequireLike(Hello zero, Hello other, int rank)
    {
        if (other.Size != zero.Size)
        {
            throw new JoinException($"Rank 0 was given size {zero.Size}, rank {rank} size {other.Size}: "
                + "give all ranks the same ExpertGroupOptions.Size (SWITCHYARD_WORLD_SIZE).");
        }
        if (other.Job != zero.Job)
        {
            throw new JoinException($"Rank 0 is of job '{zero.Job}', rank {rank} of job '{other.Job}': "
                + "give all ranks the same ExpertGroupOptions.Job (SWITCHYARD_JOB).");
        }
        if (other.Generation != zero.Generation)
            throw new JoinException($"Rank 0 is at membership {zero.Generation}, rank {rank} at {other.Generation}: one was left behind.");
    }

    private static void RequireRank(Card[] cards, int place)
    {
        Hello hello = cards[place].Hello;
        if (hello.Rank == place) return;
        int twin = Array.FindIndex(cards, card => card.Hello.Rank == hello.Rank);
        throw new JoinException(twin != place
            ? $"Two processes say that they are rank {hello.Rank}: {Describe(cards[twin])} and {Describe(cards[place])}. "
                + "Give each process its own ExpertGroupOptions.Rank (SWITCHYARD_RANK)."
            : $"The all-gather returned rank {hello.Rank}'s bytes in place {place}: it must return them by rank, and the ranks must be "
                + "those of ExpertGroupOptions.Rank.");
    }

    /// <summary>Of two ranks on different machines the lower must have an address, for the higher to connect to.</summary>
    private void RequireReachable()
    {
        for (int low = 0; low < Cards.Length; low++)
        {
            if (Cards[low].Address is not null) continue;
            int far = Array.FindIndex(Cards, low + 1, card => !IsSameMachineAs(Cards[low])(card));
            if (far < 0) continue;
            throw new JoinException($"Rank {low} ({Describe(Cards[low])}) and rank {far} ({Describe(Cards[far])}) are on different machines, "
                + $"and rank {low} says no address at which to reach it: set ExpertGroupOptions.BindAddress (SWITCHYARD_BIND_ADDRESS) on every "
                + "rank to an address of its machine.");
        }
    }

    private static Predicate<Card> IsSameMachineAs(Card card) => other => other.Machine.AsSpan().SequenceEqual(card.Machine);

    private static string Describe(Card card) => $"host {card.Hello.Host}, pid {card.Hello.ProcessId}";

    private static JoinException WrongCount(int count, ExpertGroupOptions options) =>
        new($"The all-gather returned the bytes of {count} ranks to rank {options.Rank}, which was given size {options.Size}.");

    private static JoinException NoCard(byte[]? frame, int rank) => new(
        $"The all-gather returned {(frame is null ? "nothing" : $"{frame.Length} bytes that no rank of Switchyard gives")} for rank {rank}.");
}
