"""A drop-in head for PyTorch: the last linear layer is a simplex ETF and stays fixed."""

import torch

import infall
from infall.datasets import load_digits


class ETFHead(torch.nn.Module):
    """Logits of normalised features under a fixed simplex ETF, in place of `torch.nn.Linear`."""

    def __init__(self, in_features, num_classes, *, basis="haar", seed=0, temperature=8.0):
        super().__init__()
        self.frame = infall.SimplexETF(num_classes, in_features, basis=basis, seed=seed)
        self.temperature = temperature
        vectors = torch.from_numpy(
            self.frame.vectors(dtype="float32")
        )  # (num_classes, in_features)
        self.register_buffer("vectors", vectors)  # moves and is saved with the module, not trained

    def forward(self, features):
        """Logits (N, num_classes) of features (N, in_features), with gradients."""
        unit = torch.nn.functional.normalize(features, dim=-1)
        return self.temperature * unit @ self.vectors.T

    @torch.no_grad()
    def predict(self, features):
        """Classes (N,), without an array of logits: for very many classes, where the tensor is."""
        return self.frame.classify(features)


torch.manual_seed(0)
torch.set_num_threads(1)  # more than such a small network has work for
images, labels = load_digits()
images = torch.from_numpy(images - images.mean(axis=0)).float()
labels = torch.from_numpy(labels).long()
is_test = torch.arange(len(labels)) % 5 == 0
x, y = images[~is_test], labels[~is_test]

backbone = torch.nn.Sequential(
    torch.nn.Linear(images.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, 32)
)
head = ETFHead(32, 10, seed=0)
assert not list(head.parameters())
assert "vectors" in head.state_dict()

optimizer = torch.optim.Adam(backbone.parameters(), lr=3e-3)
for _ in range(20):
    for batch in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(head(backbone(x[batch])), y[batch]).backward()
        optimizer.step()

features = backbone(images[is_test])
classes = head.predict(features)
assert torch.equal(classes, head(features).argmax(dim=1))
accuracy = (classes == labels[is_test]).float().mean().item()
print(f"test accuracy under a fixed ETF head: {accuracy:.3f}")
assert accuracy > 0.9
