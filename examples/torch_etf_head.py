"""A drop-in head for PyTorch: the last linear layer is a simplex ETF and stays fixed."""

import torch

import infall
from infall.experiments.datasets import load_digits


class ETFHead(torch.nn.Module):
    """Logits of normalised features under a fixed simplex ETF, in place of `torch.nn.Linear`.

    There is no matrix of weights, on any device: a feature goes through signs and Walsh-Hadamard
    transforms, and its gradient comes back through them.
    """

    def __init__(self, in_features, num_classes, *, basis="hadamard", seed=0, temperature=8.0):
        super().__init__()
        self.frame = infall.SimplexETF(num_classes, in_features, basis=basis, seed=seed)
        self.temperature = temperature

    def forward(self, features):
        """Logits (N, num_classes) of features (N, in_features), with gradients."""
        unit = torch.nn.functional.normalize(features, dim=-1)
        return self.temperature * self.frame.project(unit)

    @torch.no_grad()
    def predict(self, features):
        """Classes (N,), without an array of logits: for very many classes."""
        return self.frame.classify(torch.nn.functional.normalize(features, dim=-1))


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
assert not head.state_dict()  # nothing to train or save: the seed makes it

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
