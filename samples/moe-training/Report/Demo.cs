namespace MoeTraining;

/// <summary>What the report is about.</summary>
internal sealed record Demo(TrainingRun[] Runs, Agreement Agreement, ModelShape Shape, int CorpusBytes);
