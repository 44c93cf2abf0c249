using Switchyard.Rendezvous.Tests;
using Xunit.MicrosoftTestingPlatform;

return args is ["rank", .. string[] rank]
    ? await RankProcess.RunAsync(rank)
    : await TestPlatformTestFramework.RunAsync(args, SelfRegisteredExtensions.AddSelfRegisteredExtensions);
