"""Training: packs and data sets, samples, losses, the stages. Inference never imports this."""
