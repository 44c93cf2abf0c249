using Switchyard.Cuda.Kernels;
using Switchyard.Rendezvous;

namespace Switchyard.Cuda.Tests;

public sealed class ProcessTests
{
    [Fact]
    public void Two_processes_write_into_each_others_memory_and_meet()
    {
        using var gpu = new Gpu();
        DirectoryInfo directory = Directory.CreateTempSubdirectory("switchyard-test-");
        try
        {
            string path = Path.Combine(directory.FullName, "socket");
            using PacketSocket listener = PacketSocket.Listen(path, 1);
            using PeerProcess peer = PeerProcess.Start(path);
            using PacketSocket socket = PeerProcess.Await(listener.TryAccept);
            Assert.Equal(BarrierCause.None, PeerProcess.Meet(gpu, socket, rank: 0).Cause);
            Assert.Equal(0, peer.WaitForExit());
        }
        finally
        {
            directory.Delete(recursive: true);
        }
    }
}
