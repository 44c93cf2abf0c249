using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;

namespace Switchyard.Cuda.Tests.Interop;

/// <summary>Captures what a test enqueues on a stream, to run it again and again, as a program that uses graphs does.</summary>
internal sealed unsafe partial class Graph : IDisposable
{
    private const int CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1;
    private readonly nint _graph;
    private readonly nint _executable;
    private readonly CudaContext _context;

    private Graph(CudaContext context, nint graph)
    {
        _context = context;
        _graph = graph;
        using CudaContext.Scope scope = context.Enter();
        nint executable;
        CudaDriver.Check(cuGraphInstantiateWithFlags(&executable, graph, 0), nameof(cuGraphInstantiateWithFlags));
        _executable = executable;
    }

    public static Graph Capture(CudaStream stream, Action enqueue)
    {
        using CudaContext.Scope scope = stream.Context.Enter();
        CudaDriver.Check(cuStreamBeginCapture(stream.Handle, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), nameof(cuStreamBeginCapture));
        enqueue();
        nint graph;
        CudaDriver.Check(cuStreamEndCapture(stream.Handle, &graph), nameof(cuStreamEndCapture));
        return new Graph(stream.Context, graph);
    }

    public void Launch(CudaStream stream)
    {
        using CudaContext.Scope scope = _context.Enter();
        CudaDriver.Check(cuGraphLaunch(_executable, stream.Handle), nameof(cuGraphLaunch));
    }

    public void Dispose()
    {
        _ = cuGraphExecDestroy(_executable);
        _ = cuGraphDestroy(_graph);
    }

    [LibraryImport(LibCuda.Library, EntryPoint = "cuStreamBeginCapture_v2")]
    private static partial CUresult cuStreamBeginCapture(nint stream, int mode);

    [LibraryImport(LibCuda.Library)]
    private static partial CUresult cuStreamEndCapture(nint stream, nint* graph);

    [LibraryImport(LibCuda.Library)]
    private static partial CUresult cuGraphInstantiateWithFlags(nint* executable, nint graph, ulong flags);

    [LibraryImport(LibCuda.Library)]
    private static partial CUresult cuGraphLaunch(nint executable, nint stream);

    [LibraryImport(LibCuda.Library)]
    private static partial CUresult cuGraphExecDestroy(nint executable);

    [LibraryImport(LibCuda.Library)]
    private static partial CUresult cuGraphDestroy(nint graph);
}
