using System.Globalization;
using System.Runtime.Versioning;
using Switchyard.Fuzz;
using Switchyard.Fuzz.Targets;

[assembly: SupportedOSPlatform("linux")]

// instrument FOLDER: makes the assemblies there count their branches.
// list: the targets' names.
// TARGET SECONDS CORPUS [--write]: replays the corpus and fuzzes; with --write, what reached new branches becomes the corpus.
switch (args)
{
    case ["instrument", var folder]:
        Coverage.Instrument(folder);
        return 0;
    case ["list"]:
        foreach (Type type in Target.All) Console.WriteLine(Target.NameOf(type));
        return 0;
    case [var name, var seconds, var corpus, .. var rest]:
        Coverage.Begin(); // instrumented code needs the map from its first call
        using (Target target = Target.Make(name))
        {
            var fuzzer = new Fuzzer(target, Corpus.Read(corpus));
            bool isSound = fuzzer.Run(TimeSpan.FromSeconds(double.Parse(seconds, CultureInfo.InvariantCulture)));
            if (isSound && rest is ["--write"]) Corpus.Write(corpus, fuzzer.Smallest());
            return isSound ? 0 : 1;
        }
    default:
        Console.Error.WriteLine("usage: Switchyard.Fuzz instrument FOLDER | list | TARGET SECONDS CORPUS [--write]");
        return 2;
}
