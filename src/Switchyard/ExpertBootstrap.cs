namespace Switchyard;

/// <summary>
/// An all-gather of bytes that the caller has already, from MPI, a launcher's key-value store or the like, by which ranks find each other:
/// see <see cref="ExpertGroup.JoinAsync(ExpertGroupOptions, ExpertBootstrap, CancellationToken)"/>.
/// </summary>
/// <remarks>
/// Every rank calls it three times, one call after another, with at most 1024 bytes; all ranks make the same calls. Each call returns,
/// on every rank, what every rank gave, whole and unchanged, by rank, this one's included. It may throw, which fails the join; when the
/// token is cancelled it should return soon, and is abandoned if it does not. It is only used while joining.
/// The bytes make the group's key: who can read them can take a rank's place unless all ranks also have a
/// <see cref="ExpertGroupOptions.TokenFile"/>, and who can alter them decides who is in the group.
/// </remarks>
/// <param name="mine">What this rank gives; valid until the call completes.</param>
/// <param name="ct">Cancelled when the join is, or when its time is over.</param>
/// <returns>What all ranks gave, by rank.</returns>
public delegate Task<byte[][]> ExpertBootstrap(ReadOnlyMemory<byte> mine, CancellationToken ct);
