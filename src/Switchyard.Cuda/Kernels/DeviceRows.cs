namespace Switchyard.Cuda.Kernels;

/// <summary>Rows in memory that a device addresses.</summary>
/// <param name="Address">The first byte.</param>
/// <param name="Count">The rows.</param>
/// <param name="Stride">Bytes from one row to the next.</param>
/// <param name="RowBytes">Bytes of a row.</param>
internal readonly record struct DeviceRows(nint Address, long Count, long Stride, int RowBytes)
{
    /// <summary>What kernels access at once, and what bulk copies are aligned to.</summary>
    public const int Alignment = 16;

    public DeviceRows(nint address, long count, int rowBytes) : this(address, count, rowBytes, rowBytes)
    {
    }

    /// <summary>Throws unless kernels can move these rows.</summary>
    public void Validate(string name)
    {
        if (Count < 0 || RowBytes <= 0 || Stride < RowBytes)
            throw new ArgumentOutOfRangeException(name, this, "Rows need a count of at least 0, at least 1 byte each, and a stride of at least a row.");
        if (Address % Alignment != 0 || Stride % Alignment != 0 || RowBytes % Alignment != 0)
            throw new ArgumentException($"Address, stride and row bytes must be multiples of {Alignment}: {this}.", name);
    }
}
