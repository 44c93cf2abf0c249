using Switchyard.Cuda.Tests;
using Xunit.MicrosoftTestingPlatform;

return args switch
{
    ["peer", string path] => PeerProcess.Run(path),
    ["bench", string file, string commit] => ExchangeMeasurements.Run(file, commit),
    ["measure", string file, string commit] => Measurements.Run(file, commit),
    _ => await TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions),
};
