using System.CommandLine;
using System.CommandLine.Invocation;
using System.Text.Json;
using MoeTraining;
using Switchyard;

Option<bool> quick = new("--quick") { Description = "Fewer steps: under 40 seconds in all." };
Option<int?> steps = new("--steps") { Description = "Training steps of each run (default: 1200, with --quick 250)." };
Option<string> output = new("--out") { Description = "The folder for the report and its pictures (default: out/demo of the repository)." };
steps.Validators.Add(result =>
{
    if (result.Tokens.Count == 1 && (!int.TryParse(result.Tokens[0].Value, out int value) || value is < 1 or > 1_000_000))
        result.AddError($"--steps must be 1 to 1000000, not '{result.Tokens[0].Value}'.");
});
RootCommand demo = new(
    "Trains a small mixture-of-experts language model on this repository's text, its experts spread over four processes, then again " +
    "in one process, and compares the two runs bit for bit.")
{
    quick, steps, output,
};
demo.SetAction((arguments, ct) => Conductor.RunAsync(
    arguments.GetValue(steps) ?? (arguments.GetValue(quick) ? 250 : 1200), arguments.GetValue(output), ct));

Option<int> rankSteps = new("--steps") { Required = true };
Option<FileInfo> corpus = new("--corpus") { Required = true };
Command train = new("train", "Trains as one rank of the group that the environment names.") { Hidden = true, Options = { rankSteps, corpus } };
train.SetAction(async (arguments, ct) =>
{
    byte[] text = await File.ReadAllBytesAsync(arguments.GetRequiredValue(corpus).FullName, ct);
    try
    {
        await using ExpertGroup group = await ExpertGroup.JoinAsync(ExpertGroupOptions.FromEnvironment(), ct);
        using Trainer trainer = await Trainer.CreateAsync(new ModelShape(), group, text, ct);
        await trainer.TrainAsync(arguments.GetValue(rankSteps), progress =>
        {
            if (group.Rank == 0) Console.WriteLine(JsonSerializer.Serialize(progress, ProgressJson.Default.Progress));
        }, ct);
        return 0;
    }
    catch (SwitchyardException failure)
    {
        await Console.Error.WriteLineAsync($"rank {Environment.GetEnvironmentVariable("SWITCHYARD_RANK")}: {failure.Message}");
        return 1;
    }
});
demo.Subcommands.Add(train);

Command selfTest = new("selftest", "Checks the model's gradients and that four ranks equal one.") { Hidden = true };
selfTest.SetAction(async (_, ct) => await SelfTest.RunAsync(ct) ? 0 : 1);
demo.Subcommands.Add(selfTest);

ParseResult parsed = demo.Parse(args);
// An error alone, not drowned in the help text.
if (parsed.Action is ParseErrorAction error) error.ShowHelp = false;
// Long enough for the ranks to end after Ctrl-C.
return await parsed.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = TimeSpan.FromSeconds(10) });
