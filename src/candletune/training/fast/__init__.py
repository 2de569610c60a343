"""The fast engine: a step's loss and LoRA gradients by hand, over packed rows, by a memory plan.

Modules, in the order data passes through them::

    plan       how much a step may hold, and the fastest way of working that fits
    packing    rows of a micro-batch laid end to end, what they all begin with stored once
    weights    frozen matrices stacked, packed ones expanded a layer at a time; embedding and head
    head_norm  norms of the heads of queries and keys, where an architecture has them
    layer      one decoder layer forward and backward, with the derivation of its gradients
    attention  causal attention over the packed segments
    ops        elementwise arithmetic as plain functions; kernels: the same in Triton
    offload    activations that wait in host memory
    graphs     passes recorded as CUDA graphs, for models so small that launching takes longer than computing
    engine     the pass over all layers, embedding and head, and a step's micro-batches
    scoring    decisions of many prompts under several adapters: the forward pass alone
    seats      which of several processes this one is
    distributed  the same step shared by processes through torch.distributed
    following  what those besides the first do

Symbols, used in every docstring and comment of this package::

    T    packed tokens of a micro-batch          P   tokens of the shared prefix
    A    target positions: packed tokens whose   S   keys behind `Segments.gather`: every row's
         next token the loss asks for                copy of the prefix and its own tokens
    h    hidden size                             f   feed-forward size
    H, K query heads, key and value heads        d   head size
    r    LoRA rank                               V   vocabulary

Shapes::

    hidden       (T, h)        the residual stream at a layer's input
    qkv          (T, (H+2K) d) projections of queries, keys and values, side by side
    queries      (T, H, d)     rotated; (A, H, d) in the last layer
    keys, values (T, K, d)     as packed; (S, K, d) once gathered for attention
    attn_out     (T, H d)      what the output projection reads
    mid          (T, h)        the residual stream between attention and feed-forward
    gate_up      (T, 2f)       projections of gate and up, side by side
    lora_a       (T, r)        dropout(x) @ A^T, a pair's narrow product
    grad_lora    (T, r)        its gradient
    target_index (A,)          packed positions of the A target tokens
"""
