using System.Runtime.InteropServices;
using Switchyard.Cuda.Driver;
using Switchyard.Cuda.Interop;

namespace Switchyard.Cuda.Tests.Interop;

/// <summary>Captures what a test enqueues on a stream, to run it again and again, as a program that uses graphs does.</summary>
internal sealed unsafe partial class Graph : IDisposable
{
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

    /// <param name="stream">What is enqueued there goes into the graph.</param>
    /// <param name="enqueue">Enqueues.</param>
    /// <param name="mode">Whose other calls of the driver end the capture.</param>
    public static Graph Capture(CudaStream stream, Action enqueue, CUstreamCaptureMode mode = CUstreamCaptureMode.THREAD_LOCAL)
    {
        using CudaContext.Scope scope = stream.Context.Enter();
        CudaDriver.Check(cuStreamBeginCapture(stream.Handle, mode), nameof(cuStreamBeginCapture));
        nint graph;
        try
        {
            enqueue();
        }
        catch
        {
            if (cuStreamEndCapture(stream.Handle, &graph) == CUresult.CUDA_SUCCESS) _ = cuGraphDestroy(graph);
            throw;
        }
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
    private static partial CUresult cuStreamBeginCapture(nint stream, CUstreamCaptureMode mode);

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
