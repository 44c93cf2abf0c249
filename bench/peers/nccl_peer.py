#!/usr/bin/env python3
"""Expert-parallel dispatch and combine as a user writes them with PyTorch and NCCL: gather, all_to_all_single, and back, then add.

One row a token and destination rank (rank-major), bf16, each token choosing top-k different experts at random. Who sends how many rows to whom
is known beforehand and not exchanged in the timed calls. A process a GPU; the time is the slowest rank's, by CUDA events after a barrier on the
devices; rank 0 prints a line of JSON.

usage: nccl_peer.py [--ranks N] [--tokens T] ..., or under torchrun
"""
import argparse
import json
import os

os.environ.setdefault("NCCL_NVLS_ENABLE", "0")  # multicast needs a fabric manager that shared machines may lack

import torch
import torch.distributed as dist
import torch.multiprocessing


def percentiles(microseconds):
    ordered = sorted(microseconds)
    return {f"p{p}": round(ordered[(len(ordered) * p + 99) // 100 - 1], 2) for p in (50, 99)}


def destinations(rank, ranks, args):
    """By token and rank of this rank's tokens: whether a row goes there. Every rank can draw every other's."""
    generator = torch.Generator().manual_seed(1234 + rank)
    choices = torch.rand(args.tokens, args.experts, generator=generator).topk(args.top_k, dim=1).indices
    goes = torch.zeros(args.tokens, ranks, dtype=torch.bool)
    goes.scatter_(1, choices * ranks // args.experts, True)
    return goes


def slowest(call, repetitions, warmup):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    meeting = torch.zeros(1, device="cuda")
    times = torch.zeros(repetitions, dtype=torch.float64, device="cuda")
    for turn in range(-warmup, repetitions):
        dist.barrier()
        torch.cuda._sleep(1_000_000)  # some 500 microseconds, in which the host enqueues all that follows
        dist.all_reduce(meeting)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        if turn >= 0:
            times[turn] = start.elapsed_time(end) * 1000
    dist.all_reduce(times, op=dist.ReduceOp.MAX)
    return percentiles(times.tolist())


def run(rank, ranks, args):
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)))
    dist.init_process_group("nccl", rank=rank, world_size=ranks)
    routes = [destinations(each, ranks, args) for each in range(ranks)]
    # Sorted by destination, then by token.
    token_of_row = routes[rank].T.nonzero()[:, 1].cuda()
    sends = routes[rank].sum(0).tolist()
    receives = [int(route[:, rank].sum()) for route in routes]

    def draw(source):
        return torch.randn(args.tokens, args.hidden, generator=torch.Generator().manual_seed(source)).bfloat16()

    x = draw(rank).cuda()
    sent = torch.empty(sum(sends), args.hidden, dtype=torch.bfloat16, device="cuda")
    received = torch.empty(sum(receives), args.hidden, dtype=torch.bfloat16, device="cuda")
    returned = torch.empty_like(sent)
    sums = torch.empty(args.tokens, args.hidden, dtype=torch.float32, device="cuda")
    output = torch.empty_like(x)

    def dispatch():
        torch.index_select(x, 0, token_of_row, out=sent)
        dist.all_to_all_single(received, sent, receives, sends)

    def combine():
        dist.all_to_all_single(returned, received, sends, receives)
        sums.zero_()
        sums.index_add_(0, token_of_row, returned.float())
        output.copy_(sums)

    dispatch_us = slowest(dispatch, args.repetitions, args.warmup)
    expected = torch.cat([draw(source)[route[:, rank]] for source, route in enumerate(routes)]).cuda()
    verified = torch.equal(received, expected)
    combine_us = slowest(combine, args.repetitions, args.warmup)
    # Each row comes back as it went: so many times the token; all partial sums are exact in single precision.
    verified &= torch.equal(output, (x.float() * routes[rank].sum(1, keepdim=True).cuda()).bfloat16())
    right = torch.tensor([int(verified)], device="cuda")
    dist.all_reduce(right, op=dist.ReduceOp.MIN)
    if rank == 0:
        print(json.dumps({
            "peer": "nccl", "ranks": ranks, "tokens": args.tokens, "hidden": args.hidden, "topK": args.top_k, "experts": args.experts,
            "element": "bf16", "rows": sum(int(route.sum()) for route in routes), "verified": bool(right.item()), "repetitions": args.repetitions,
            "dispatchUs": dispatch_us, "combineUs": combine_us, "device": torch.cuda.get_device_name(), "torch": torch.__version__,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }), flush=True)
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("ranks", 2), ("tokens", 4096), ("hidden", 7168), ("top-k", 8), ("experts", 256), ("repetitions", 50), ("warmup", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    if "RANK" in os.environ:  # under torchrun
        run(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), args)
        return
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29511")
    torch.multiprocessing.spawn(run, args=(args.ranks, args), nprocs=args.ranks)


if __name__ == "__main__":
    main()
