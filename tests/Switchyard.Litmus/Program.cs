using System.Diagnostics;
using System.Globalization;
using Switchyard.Litmus;

// Each test says how often the forbidden outcome was seen. The protocol's own code must never show it; a control with one fence taken out
// must show it, or the test could not have found the fence missing. Last line: the sums.
(string Name, bool IsControl, IRace Race)[] races =
[
    ("publish: rows, then flag", false, new PublishRace(Publish.PlainStores)),
    ("publish: streamed rows, fence, flag", false, new PublishRace(Publish.StreamedFenced)),
    ("publish, broken: streamed rows, flag without fence", true, new PublishRace(Publish.StreamedUnfenced)),
    ("sleep: doorbell as the protocol uses it", false, new SleepRace(Fences.Both)),
    ("sleep, broken: writer does not fence", true, new SleepRace(Fences.SleeperOnly)),
    ("sleep, broken: sleeper does not fence", true, new SleepRace(Fences.WriterOnly)),
];

if (Environment.ProcessorCount < 2)
{
    Console.WriteLine("A race needs two cores; this machine has one.");
    Console.WriteLine($"total: 0 passed, 0 failed, {races.Length} skipped");
    return 0;
}

TimeSpan limit = TimeSpan.FromSeconds(args.Length > 0 ? double.Parse(args[0], CultureInfo.InvariantCulture) : 3);
int passed = 0;
foreach ((string name, bool isControl, IRace race) in races)
{
    var clock = Stopwatch.StartNew();
    // A control may stop at the first failure, and gets longer to find one.
    (long rounds, long forbidden) = RaceRunner.Run(race, isControl ? 20 * limit : limit, stopAtFirst: isControl);
    bool isRight = isControl == forbidden > 0;
    if (isRight) passed++;
    Console.WriteLine($"{(isRight ? "passed" : "failed")} {name} ({rounds} rounds, {forbidden} forbidden outcomes, {clock.Elapsed.TotalSeconds:0.0} s)");
}
Console.WriteLine($"total: {passed} passed, {races.Length - passed} failed, 0 skipped");
return passed == races.Length ? 0 : 1;
