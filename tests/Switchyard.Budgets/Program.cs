using System.Runtime.CompilerServices;
using Switchyard.Budgets;

// Does each piece of work twice, the second time inside Meter.Run, where callgrind counts; prints the names in the order of its dumps.
foreach ((string name, Action work) in KernelWork.All().Concat(ExchangeWork.All()))
{
    work();
    Meter.Run(work);
    Console.WriteLine(name);
}

namespace Switchyard.Budgets
{
    internal static class Meter
    {
        private static int _runs;

        [MethodImpl(MethodImplOptions.NoInlining)]
        public static void Run(Action work)
        {
            work();
            // Keeps the call above from becoming a jump, which would leave this method before the work is done.
            _runs++;
        }
    }
}
