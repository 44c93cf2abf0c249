using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Microsoft.Win32.SafeHandles;
using Switchyard.Interop;

namespace Switchyard.Rendezvous;

/// <summary>The folder in which the ranks of a job meet, and the job's files in it. Only this user can enter it.</summary>
internal sealed class MeetingPlace
{
    private const int MaxPathBytes = SockaddrUn.PathBytes - 1;
    private const string Remedy = "Choose another with ExpertGroupOptions.Directory or SWITCHYARD_DIRECTORY.";

    private MeetingPlace(string stem)
    {
        SocketPath = stem + ".sock";
        TokenPath = stem + ".token";
        LockPath = stem + ".lock";
    }

    public string SocketPath { get; }

    public string TokenPath { get; }

    /// <summary>Locked by a job's rank 0 while it lives: the kernel lets go of it when that process dies, however it dies.</summary>
    public string LockPath { get; }

    /// <summary>Makes the folder if need be, and refuses one that others could have prepared.</summary>
    public static MeetingPlace Open(ExpertGroupOptions options)
    {
        UserNamespace.RequireOwnUser();
        string directory = Path.GetFullPath(options.Directory ?? DefaultDirectory());
        string stem = Stem(directory, options.Job);
        try
        {
            Make(directory);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new JoinException($"The folder '{directory}', in which the ranks meet, cannot be made: {e.Message} {Remedy}", e);
        }
        RefuseUnsafe(directory);
        return new MeetingPlace(stem);
    }

    /// <summary>Takes the job's lock, or returns null where a living rank 0 holds it. Dispose of the result lets go of it.</summary>
    public SafeFileHandle? TryLock()
    {
        while (true)
        {
            int fd = Libc.open(LockPath, Libc.O_RDWR | Libc.O_CREAT | Libc.O_CLOEXEC | Libc.O_NOFOLLOW, Libc.OwnerReadWrite);
            if (fd < 0) throw new TransportException("open", Marshal.GetLastPInvokeError(), $"Cannot open the job's lock '{LockPath}'.");
            var file = new SafeFileHandle(fd, ownsHandle: true);
            bool locked = Libc.flock(fd, Libc.LOCK_EX | Libc.LOCK_NB) == 0;
            if (locked && FileStatus.Of(LockPath) is { } there && there.Inode == FileStatus.Of(file).Inode) return file;
            file.Dispose();
            if (!locked) return null;
            // The holder before us removed the file between our open and our lock: what we locked is nobody's any more.
        }
    }

    private static void Make(string directory)
    {
        if (Path.GetDirectoryName(directory) is { } parent) Directory.CreateDirectory(parent);
        if (Libc.mkdir(directory, Libc.OwnerAll) == 0) return;
        int error = Marshal.GetLastPInvokeError();
        if (error != Libc.EEXIST) throw new IOException(Marshal.GetPInvokeErrorMessage(error));
    }

    private static string DefaultDirectory() =>
        Environment.GetEnvironmentVariable("XDG_RUNTIME_DIR") is { Length: > 0 } runtime
            ? Path.Combine(runtime, "switchyard")
            : $"/tmp/switchyard-{Libc.geteuid()}";

    /// <summary>A socket's path has little room: a job whose name does not fit is called by its hash.</summary>
    private static string Stem(string directory, string job)
    {
        string byName = Path.Combine(directory, job);
        if (Fits(byName)) return byName;
        byte[] hash = SHA256.HashData(Encoding.UTF8.GetBytes(job));
        string byHash = Path.Combine(directory, "job-" + Convert.ToHexStringLower(hash.AsSpan(0, 8)));
        if (Fits(byHash)) return byHash;
        throw new JoinException(
            $"The folder '{directory}', in which the ranks meet, has too long a name for a socket (at most {MaxPathBytes} bytes). {Remedy}");
    }

    private static bool Fits(string stem) => Encoding.UTF8.GetByteCount(stem) + ".sock".Length <= MaxPathBytes;

    private static void RefuseUnsafe(string directory)
    {
        FileStatus status = FileStatus.Of(directory) ?? throw new JoinException($"The folder '{directory}' vanished.");
        string? fault = status switch
        {
            { IsSymbolicLink: true } => "is a symbolic link",
            { IsDirectory: false } => "is not a folder",
            { IsOwn: false } when !UserNamespace.Has(status.UserId) => $"belongs to a user who has no number in this process's user namespace; {UserNamespace.Remedy}",
            { IsOwn: false } => $"belongs to user {status.UserId}, not to this process's user {Libc.geteuid()}",
            { IsPrivate: false } => $"can be entered by others (mode {status.Permissions}); a folder of your own with mode 0700 is needed, and is made if missing",
            _ => null,
        };
        if (fault is not null) throw new JoinException($"'{directory}', where the ranks meet, {fault}. {Remedy}");
    }
}
