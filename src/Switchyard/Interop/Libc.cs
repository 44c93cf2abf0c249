using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

[assembly: DisableRuntimeMarshalling]

namespace Switchyard.Interop;

/// <summary>The C library's functions under their own names, one signature in one place. Nothing above the callers sees a raw error number.</summary>
internal static unsafe partial class Libc
{
    private const string Library = "libc";
}
