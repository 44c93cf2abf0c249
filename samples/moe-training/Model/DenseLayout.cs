namespace MoeTraining;

/// <summary>
/// Where each matrix that all ranks hold lies in one flat array, so that summing, sending and optimizing need to know nothing
/// about the model. The gradient of a shard has the same layout, followed by the shard's statistics.
/// </summary>
internal sealed class DenseLayout
{
    private readonly ModelShape _shape;

    public DenseLayout(ModelShape shape)
    {
        _shape = shape;
        PerBlock = 4 * shape.Hidden * shape.Hidden + shape.Hidden * shape.Experts;
        Blocks = (shape.Vocabulary + shape.SequenceLength) * shape.Hidden;
        Count = Blocks + shape.Blocks * PerBlock;
    }

    /// <summary>The number of parameters.</summary>
    public int Count { get; }

    /// <summary>The length of a shard's gradient: the parameters, loss, balance, and the load of each block's experts.</summary>
    public int GradientLength => Count + 2 + _shape.Blocks * _shape.Experts;

    private int PerBlock { get; }

    private int Blocks { get; }

    public Matrix Embedding(float[] values) => At(values, 0, _shape.Vocabulary, _shape.Hidden);

    public Matrix Position(float[] values) => At(values, _shape.Vocabulary * _shape.Hidden, _shape.SequenceLength, _shape.Hidden);

    public Matrix Query(float[] values, int block) => Square(values, block, 0);

    public Matrix Key(float[] values, int block) => Square(values, block, 1);

    public Matrix Value(float[] values, int block) => Square(values, block, 2);

    public Matrix Output(float[] values, int block) => Square(values, block, 3);

    public Matrix Gate(float[] values, int block) =>
        At(values, Blocks + block * PerBlock + 4 * _shape.Hidden * _shape.Hidden, _shape.Hidden, _shape.Experts);

    public ref float Loss(float[] gradient) => ref gradient[Count];

    public ref float Balance(float[] gradient) => ref gradient[Count + 1];

    public Span<float> Load(float[] gradient, int block) => gradient.AsSpan(Count + 2 + block * _shape.Experts, _shape.Experts);

    private Matrix Square(float[] values, int block, int index) =>
        At(values, Blocks + block * PerBlock + index * _shape.Hidden * _shape.Hidden, _shape.Hidden, _shape.Hidden);

    private static Matrix At(float[] values, int offset, int rows, int columns) => new(values.AsSpan(offset, rows * columns), columns);
}
