using System.Globalization;
using Switchyard.Cuda.Tests;
using Xunit.MicrosoftTestingPlatform;

return args switch
{
    [RankProcess.Mode, string scenario, string device, string seed] => await RankProcess.RunAsync(scenario, int.Parse(device, CultureInfo.InvariantCulture), int.Parse(seed, CultureInfo.InvariantCulture)),
    ["peer", string path] => PeerProcess.Run(path),
    ["measure", string file, string commit] => Measurements.Run(file, commit),
    _ => await TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions),
};
